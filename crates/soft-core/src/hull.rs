//! How far a vector lies from the convex hull of others.

/// Steps of the search; each moves all the weight that one pair can exchange.
const MAX_STEPS: usize = 10_000;

/// Euclidean distance from x to the convex hull of k points, 0 inside of it.
///
/// Minimises `||x - sum_i w_i a_i||` over weights `w_i >= 0` that sum to 1 by moving weight to the
/// point of the steepest descent from that which gains most by it (the choice of pairs of Fan, Chen
/// and Lin 2005 for support vector machines). An upper bound where the search ends early, which at the few tokens of
/// a mixture it does not.
///
/// # Shapes
/// - products: `k * k` inner products `a_i . a_j`, row by row
/// - with_x: the k inner products `a_i . x`
/// - square: `x . x`
///
/// # Panics
/// If there is no point, or `products` is not `k * k` long.
pub fn distance_to_hull(products: &[f64], with_x: &[f64], square: f64) -> f64 {
    let k = with_x.len();
    assert!(k > 0 && products.len() == k * k, "k points and their k * k products");
    let product = |i: usize, j: usize| products[i * k + j];
    let from = |i: usize| product(i, i) - 2.0 * with_x[i];
    let nearest = (0..k).min_by(|&i, &j| from(i).total_cmp(&from(j))).unwrap_or(0);
    let mut weights = vec![0.0; k];
    weights[nearest] = 1.0;
    // Half the gradient: a_i . (y - x), y being the point that the weights make.
    let mut slope: Vec<f64> = (0..k).map(|i| product(i, nearest) - with_x[i]).collect();
    let scale = (0..k).map(|i| product(i, i)).fold(square, f64::max).max(f64::MIN_POSITIVE);
    for _ in 0..MAX_STEPS {
        let Some(to) = (0..k).min_by(|&i, &j| slope[i].total_cmp(&slope[j])) else { break };
        let curve = |away: usize| product(to, to) - 2.0 * product(to, away) + product(away, away);
        // What the exchange with `away` gains, to second order.
        let gain = |away: usize| {
            let first = (slope[away] - slope[to]).max(0.0);
            let moved = (first / curve(away).max(f64::MIN_POSITIVE)).min(weights[away]);
            moved * (first - moved * curve(away) / 2.0)
        };
        let worth = |&i: &usize, &j: &usize| gain(i).total_cmp(&gain(j));
        let Some(away) = (0..k).filter(|&i| weights[i] > 0.0).max_by(worth) else { break };
        if gain(away) <= 1e-18 * scale {
            break;
        }
        let moved = ((slope[away] - slope[to]) / curve(away)).min(weights[away]);
        weights[to] += moved;
        weights[away] -= moved;
        for (i, slope) in slope.iter_mut().enumerate() {
            *slope += moved * (product(i, to) - product(i, away));
        }
    }
    // ||x - y||^2 = x.x - 2 x.y + y.y, with y.y = sum_i w_i (slope_i + a_i.x).
    let distance = weights.iter().zip(&slope).zip(with_x).map(|((w, s), b)| w * (s - b));
    (square + distance.sum::<f64>()).max(0.0).sqrt()
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
            prop_assert!(distance(&points, &mixture) < 1e-4);
            let to = |a: &[f64]| a.iter().zip(&x).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            let found = distance(&points, &x);
            prop_assert!(points.iter().all(|a| found <= to(a) + 1e-9));
            prop_assert!(found <= to(&mixture) + 1e-4);
        }
    }
}
