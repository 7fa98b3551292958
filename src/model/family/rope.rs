//! Keys of rotary positions in `config.json`, of which `transformers` has two layouts: at the top (version 4), and in
//! `rope_parameters` (version 5). Both are read, and both are written.

use std::sync::Arc;

use super::JsonMap;
use crate::graph::TensorId;
use crate::model::builder::Builder;
use crate::model::config::{ModelConfig, SizeError};
use crate::ops::{RepeatHeads, Rotary};

/// Numbers of a head that turn, as `transformers` counts them: rounded down, and up to whole pairs.
fn rotated(c: &ModelConfig) -> u32 {
    ((f64::from(c.head_size()) * c.partial_rotary_factor) as u32).next_multiple_of(2)
}

/// Numbers of a head that stay.
pub(super) fn still(c: &ModelConfig) -> std::ops::Range<u32> {
    rotated(c).min(c.head_size())..c.head_size()
}

/// Refuses pairs that a head or the kernel has no room for.
pub(super) fn check(c: &ModelConfig) -> Result<(), SizeError> {
    let (rotated, size) = (rotated(c), c.head_size());
    let theta = c.rope_theta;
    if !(theta > 0.0 && theta.is_finite()) {
        return Err(SizeError::Number { key: "rope_theta", value: theta, interval: "(0, ∞)" });
    }
    match rotated <= size && c.partial_rotary_factor >= 0.0 {
        true => Ok(()),
        false => Err(SizeError::Rotary { rotated, size }),
    }
}

/// Queries and keys turned by their positions, and keys and values given to all heads of their group.
pub(super) fn turn(b: &mut Builder<'_>, x: TensorId) -> TensorId {
    let (c, size, heads, groups) = (b.config, b.config.head_size(), b.config.num_attention_heads, b.config.groups());
    let repeat = (groups != heads).then_some(RepeatHeads { heads, groups, size });
    // Rounded down before it is halved, and the exponents are of that number.
    let turned = (f64::from(size) * c.partial_rotary_factor).floor();
    let pair = |i: u32| c.rope_theta.powf(-2.0 * f64::from(i) / turned) as f32;
    let frequencies: Arc<[f32]> = (0..rotated(c) / 2).map(pair).collect();
    match (frequencies.is_empty(), repeat) {
        (true, None) => x,
        (true, Some(repeat)) => b.graph.repeat_heads(x, repeat),
        (false, repeat) => b.graph.rotary(x, Rotary { heads: heads + groups, size, frequencies, repeat }),
    }
}

/// Brings the base and the share that turns to the top, under the names `base` and `share` where the type has them.
///
/// # Errors
/// Other kinds of rotary positions than the default.
pub(super) fn read(given: &mut JsonMap, base: &str, share: Option<&str>) -> Result<(), String> {
    let truthy = |value: &serde_json::Value| value.as_object().is_some_and(|map| !map.is_empty());
    let nested = ["rope_scaling", "rope_parameters"].into_iter().find(|key| given.get(*key).is_some_and(truthy));
    let Some(key) = nested else { return Ok(()) };
    let Some(inner) = given.get(key).and_then(|value| value.as_object()).cloned() else { return Ok(()) };
    let kind = inner.get("rope_type").or_else(|| inner.get("type")).and_then(|kind| kind.as_str());
    if let Some(kind) = kind.filter(|kind| *kind != "default") {
        return Err(format!("{key} has rope_type \"{kind}\"; only \"default\" is supported"));
    }
    if let Some(layered) = inner.iter().find(|(_, value)| value.is_object()) {
        return Err(format!("{key} differs by layer (`{}`); only the same for all is supported", layered.0));
    }
    for (from, to) in [("rope_theta", Some(base)), ("partial_rotary_factor", share)] {
        // A type that has no share turns whole heads whatever it says.
        if let (Some(value), Some(to)) = (inner.get(from).filter(|value| !value.is_null()), to) {
            given.insert(to.into(), value.clone());
        }
    }
    Ok(())
}

/// Writes what version 5 reads beside the keys at the top.
pub(super) fn write(c: &ModelConfig, map: &mut JsonMap, share: bool) {
    let mut inner = serde_json::json!({ "rope_type": "default", "rope_theta": c.rope_theta });
    if share {
        inner["partial_rotary_factor"] = c.partial_rotary_factor.into();
    }
    map.insert("rope_parameters".into(), inner);
}
