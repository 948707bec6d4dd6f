//! How far a vector lies from the convex hull of others.

/// Largest number of points that are taken into the corral; more only where rounding leads astray.
const MAX_STEPS: usize = 1000;
/// Relative to the squares at hand, what is taken for rounding.
const ROUNDING: f64 = 1e-12;

/// Euclidean distance from x to the convex hull of k points, 0 inside of it.
///
/// # Shapes
/// - products: `k * k` inner products `a_i . a_j`, row by row
/// - with_x: the k inner products `a_i . x`
/// - square: `x . x`
///
/// # Panics
/// If there is no point, or `products` is not `k * k` long.
///
/// # Source
/// Wolfe (1976), "Finding the nearest point in a polytope", on the points less x: a corral of
/// points is kept whose affine hull has its nearest point inside; it grows by the point that lies
/// lowest in the direction of the origin, and loses those whose weight would turn negative.
pub fn distance_to_hull(products: &[f64], with_x: &[f64], square: f64) -> f64 {
    let k = with_x.len();
    assert!(k > 0 && products.len() == k * k, "k points and their k * k products");
    // (a_i - x) . (a_j - x)
    let product = |i: usize, j: usize| products[i * k + j] - with_x[i] - with_x[j] + square;
    let scale = (0..k).map(|i| product(i, i).abs()).fold(square, f64::max);
    let first = (0..k).min_by(|&i, &j| product(i, i).total_cmp(&product(j, j))).unwrap_or(0);
    let mut corral = vec![(first, 1.0)];
    for _ in 0..MAX_STEPS {
        let along = |j: usize| corral.iter().map(|&(i, w)| w * product(i, j)).sum::<f64>();
        let norm: f64 = corral.iter().map(|&(i, w)| w * along(i)).sum();
        let lowest = (0..k).min_by(|&i, &j| along(i).total_cmp(&along(j))).unwrap_or(first);
        let is_in = corral.iter().any(|entry| entry.0 == lowest);
        if is_in || along(lowest) >= norm - ROUNDING * scale {
            break;
        }
        corral.push((lowest, 0.0));
        while let Some(wanted) = affine_minimum(&corral, &product) {
            if wanted.iter().all(|&w| w > 0.0) {
                corral.iter_mut().zip(wanted).for_each(|(entry, w)| entry.1 = w);
                break;
            }
            // As far towards it as all weights stay at 0 or more.
            let steps = corral.iter().zip(&wanted).filter(|(_, w)| **w <= 0.0);
            let step = steps.map(|(entry, w)| entry.1 / (entry.1 - w)).fold(1.0, f64::min);
            for (entry, w) in corral.iter_mut().zip(wanted) {
                entry.1 += step * (w - entry.1);
            }
            corral.retain(|entry| entry.1 > ROUNDING);
        }
    }
    let norm: f64 = corral
        .iter()
        .flat_map(|&(i, v)| corral.iter().map(move |&(j, w)| (i, j, v * w)))
        .map(|(i, j, weight)| weight * product(i, j))
        .sum();
    norm.max(0.0).sqrt()
}

/// Weights, of either sign, of the point of the corral's affine hull that is nearest to the
/// origin; none where the points depend on one another.
fn affine_minimum(
    corral: &[(usize, f64)],
    product: &impl Fn(usize, usize) -> f64,
) -> Option<Vec<f64>> {
    let n = corral.len();
    if n < 2 {
        return (n == 1).then(|| vec![1.0]);
    }
    // (H + 1 1^T) u = 1, and u divided by its sum: elimination with pivots.
    let scale = corral.iter().map(|&(i, _)| product(i, i).abs()).fold(f64::MIN_POSITIVE, f64::max);
    let mut rows: Vec<Vec<f64>> = corral
        .iter()
        .map(|&(i, _)| {
            let entries = corral.iter().map(|&(j, _)| product(i, j) / scale + 1.0);
            entries.chain(Some(1.0)).collect()
        })
        .collect();
    for column in 0..n {
        let pivot =
            (column..n).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, pivot);
        if rows[column][column].abs() < ROUNDING {
            return None;
        }
        let lead = rows[column].clone();
        for row in rows.iter_mut().skip(column + 1) {
            let factor = row[column] / lead[column];
            row.iter_mut().zip(&lead).for_each(|(x, l)| *x -= factor * l);
        }
    }
    let mut u = vec![0.0; n];
    for place in (0..n).rev() {
        let known: f64 = (place + 1..n).map(|other| rows[place][other] * u[other]).sum();
        u[place] = (rows[place][n] - known) / rows[place][place];
    }
    let sum: f64 = u.iter().sum();
    Some(u.into_iter().map(|u| u / sum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    fn distance(points: &[Vec<f64>], x: &[f64]) -> f64 {
        let products: Vec<f64> =
            points.iter().flat_map(|a| points.iter().map(move |b| dot(a, b))).collect();
        let with_x: Vec<f64> = points.iter().map(|a| dot(a, x)).collect();
        distance_to_hull(&products, &with_x, dot(x, x))
    }

    #[test]
    fn of_a_triangle_it_is_that_to_a_side_a_corner_or_nothing() {
        let triangle = [vec![0.0, 0.0], vec![4.0, 0.0], vec![0.0, 4.0]];
        for (x, expected) in [
            ([1.0, 1.0], 0.0),
            ([1.0, -2.0], 2.0),
            ([-3.0, -4.0], 5.0),
            ([3.0, 3.0], 2f64.sqrt()),
            ([6.0, 0.0], 2.0),
        ] {
            assert!((distance(&triangle, &x) - expected).abs() < 1e-9, "{x:?}");
        }
        assert!((distance(&triangle[..1], &[3.0, 4.0]) - 5.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn a_mixture_lies_in_the_hull_and_no_point_is_nearer_than_it(
            points in prop::collection::vec(prop::collection::vec(-2.0..2.0f64, 6), 1..9),
            weights in prop::collection::vec(0.01..1.0f64, 9),
            x in prop::collection::vec(-4.0..4.0f64, 6),
        ) {
            let sum: f64 = weights[..points.len()].iter().sum();
            let mixture: Vec<f64> = (0..6)
                .map(|d| points.iter().zip(&weights).map(|(a, w)| a[d] * w / sum).sum())
                .collect();
            let zero = distance(&points, &mixture);
            prop_assert!(zero < 1e-4, "{zero}");
            let to = |a: &[f64]| a.iter().zip(&x).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            let found = distance(&points, &x);
            prop_assert!(points.iter().all(|a| found <= to(a) + 1e-9));
            prop_assert!(found <= to(&mixture) + 1e-4);
        }
    }
}
