//! Rotary positions in `config.json`: `rope_theta` and `rope_scaling` of transformers 4,
//! `rope_parameters` of transformers 5.

use serde_json::{Map, Value, json};

use crate::Error;
use crate::config::json_fields::Fields;
use crate::config::{Positions, RopeScaling};

/// Base of every family here where no file names one.
pub(super) const DEFAULT_THETA: f64 = 10_000.0;

/// Reads either spelling; where both are there they must agree.
pub(super) fn read(fields: &Fields<'_>, max_positions: usize) -> Result<Positions, Error> {
    whole_head(fields)?;
    let top_theta = fields.number("rope_theta")?;
    let scaling = fields.object("rope_scaling", "rope_scaling.")?;
    let parameters = fields.object("rope_parameters", "rope_parameters.")?;
    let mut found = Vec::new();
    for rope in [scaling, parameters].into_iter().flatten() {
        refuse_layer_types(&rope)?;
        whole_head(&rope)?;
        let theta = rope.number("rope_theta")?.or(top_theta).unwrap_or(DEFAULT_THETA);
        found.push((theta, read_scaling(fields, &rope, max_positions)?));
    }
    if let [first, second] = found[..]
        && first != second
    {
        let problem = format!("{second:?} contradicts rope_theta and rope_scaling: {first:?}");
        return fields.fail("rope_parameters", problem);
    }
    let (theta, scaling) = match found.first() {
        Some(found) => *found,
        None => (top_theta.unwrap_or(DEFAULT_THETA), None),
    };
    if let Some(top) = top_theta
        && top != theta
    {
        let problem = format!("found {theta}, which contradicts rope_theta {top}");
        return fields.fail("rope_parameters.rope_theta", problem);
    }
    Ok(Positions::Rotary { theta, scaling })
}

/// Writes both spellings, so that any reader finds its own.
pub(super) fn write(theta: f64, scaling: Option<RopeScaling>, out: &mut Map<String, Value>) {
    let mut rope = match scaling {
        None => json!({"rope_type": "default"}),
        Some(RopeScaling::Linear { factor }) => json!({"rope_type": "linear", "factor": factor}),
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        }) => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_positions,
        }),
    };
    out.insert("rope_theta".into(), json!(theta));
    let old = if scaling.is_some() { rope.clone() } else { Value::Null };
    out.insert("rope_scaling".into(), old);
    rope["rope_theta"] = json!(theta);
    out.insert("rope_parameters".into(), rope);
}

/// Transformers 5 nests one object a layer type in models that mix them.
fn refuse_layer_types(rope: &Fields<'_>) -> Result<(), Error> {
    match rope.entries().find(|(_, value)| value.is_object()) {
        Some((key, _)) => {
            rope.fail(key, "rotary parameters that differ between layer types are not supported")
        }
        None => Ok(()),
    }
}

fn whole_head(fields: &Fields<'_>) -> Result<(), Error> {
    match fields.number("partial_rotary_factor")? {
        Some(share) if share != 1.0 => {
            fields.fail("partial_rotary_factor", format!("found {share}, only 1 is supported"))
        }
        _ => Ok(()),
    }
}

fn read_scaling(
    fields: &Fields<'_>,
    rope: &Fields<'_>,
    max_positions: usize,
) -> Result<Option<RopeScaling>, Error> {
    let key = if rope.has("rope_type") { "rope_type" } else { "type" };
    let required = |key| match rope.number(key)? {
        Some(number) => Ok(number),
        None => rope.fail(key, "is missing, expected a number"),
    };
    match rope.text(key)?.unwrap_or("default") {
        "default" => Ok(None),
        "linear" => Ok(Some(RopeScaling::Linear { factor: required("factor")? })),
        "llama3" => {
            let original = "original_max_position_embeddings";
            let original_max_positions =
                rope.size(original)?.or(fields.size(original)?).unwrap_or(max_positions);
            Ok(Some(RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: required("low_freq_factor")?,
                high_freq_factor: required("high_freq_factor")?,
                original_max_positions,
            }))
        }
        other => {
            rope.fail(key, format!("found {other:?}, supported are default, linear and llama3"))
        }
    }
}
