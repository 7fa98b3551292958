//! A model's weights in the order of tokens and positions of another config: how training goes on from a model whose
//! tokenizer numbers the words in its own way.
//!
//! Rows of the word table, of an untied decoder and of the bias over the words move to where their token belongs; rows
//! of the position table to where their place in a sentence belongs (with RoBERTa the first one follows from the id of
//! padding).

use super::config::ModelConfig;
use super::encoder::Encoder;
use super::files::Loaded;
use super::role::Part;
use super::token_ids::TokenIds;
use crate::ops::Table;

/// What changes the function and no shape, by the names in [`ModelConfig`].
fn function(c: &ModelConfig) -> [(&'static str, serde_json::Value); 8] {
    [
        ("num_attention_heads", c.num_attention_heads.into()),
        ("num_key_value_heads", c.groups().into()),
        ("head_dim", c.head_size().into()),
        ("rope_theta", c.rope_theta.into()),
        ("partial_rotary_factor", c.partial_rotary_factor.into()),
        ("use_parallel_residual", c.use_parallel_residual.into()),
        ("bidirectional", c.bidirectional.into()),
        ("tie_word_embeddings", c.tie_word_embeddings.into()),
    ]
}

/// A model's weights for an encoder that is trained here, and what is worth a note; `ids` are those that the model has
/// for the language of that encoder.
///
/// # Errors
/// What does not fit the encoder.
pub fn reordered(model: &Loaded, ids: &TokenIds, encoder: &Encoder) -> Result<(super::Weights, Vec<String>), String> {
    let (from, to) = (&model.encoder.config, &encoder.config);
    if from.hidden_act.activation() != to.hidden_act.activation() {
        let (has, wanted) = (from.hidden_act.name(), to.hidden_act.name());
        return Err(format!("its hidden_act is \"{has}\", that of [model] \"{wanted}\""));
    }
    for ((ours, has), (_, wanted)) in function(from).into_iter().zip(function(to)) {
        if let Some((_, key)) = to.kind.keys().iter().find(|(own, _)| *own == ours).filter(|_| has != wanted) {
            return Err(format!("its {key} is {has}, that of [model] {wanted}"));
        }
    }
    let mut tokens = ids.own_order()?;
    let beside = (to.vocab_size as usize).saturating_sub(tokens.len());
    if beside > 0 {
        // Rows that have no word here become rows that have none there.
        let used: std::collections::HashSet<u32> = tokens.iter().copied().collect();
        tokens.extend((0..ids.size() as u32).filter(|id| !used.contains(id)).take(beside));
        if tokens.len() < to.vocab_size as usize {
            let (has, needs) = (ids.size(), to.vocab_size);
            return Err(format!("its word table has {has} rows, [model] has {needs} (vocab_size)"));
        }
    }
    let mut notes = Vec::new();
    if ids.size() > tokens.len() {
        let rows = ids.size() - tokens.len();
        notes.push(format!("training leaves out the rows of {rows} tokens that are no words of the language"));
    }
    if from.longest() > to.longest() {
        let (has, needs) = (from.longest(), to.longest());
        notes.push(format!("training leaves out the positions beyond {needs} tokens (the model has {has})"));
    }
    if from.layer_norm_eps != to.layer_norm_eps {
        let (has, counts) = (from.layer_norm_eps, to.layer_norm_eps);
        notes.push(format!("its layer_norm_eps is {has}, that of [model] {counts}; the latter counts"));
    }
    // Row of the model for each row of the encoder; those before the first position are never used.
    let first = (from.first_position() as usize, to.first_position() as usize);
    let position = |row: usize| (row + first.0).checked_sub(first.1);
    let mut weights = Vec::with_capacity(encoder.parameters.len());
    for parameter in &encoder.parameters {
        let name = &parameter.name;
        let Some(at) = model.encoder.find(name) else {
            return Err(format!("it has no tensor `{name}` {:?}, which [model] has", parameter.shape));
        };
        let (shape, values) = (&model.encoder.parameters[at].shape, &model.weights.0[at]);
        let rows = parameter.shape[0];
        let wanted: Option<Vec<Option<usize>>> = if parameter.role.is_over_words() {
            Some(tokens.iter().map(|id| Some(*id as usize)).collect())
        } else if parameter.role.part == Part::Table(Table::Positions) && from.longest() >= to.longest() {
            Some((0..rows).map(position).collect())
        } else {
            None
        };
        let fits = match &wanted {
            Some(wanted) => shape[1..] == parameter.shape[1..] && wanted.len() == rows,
            None => *shape == parameter.shape,
        };
        if !fits {
            let wanted = &parameter.shape;
            return Err(format!("its tensor `{name}` {shape:?} does not fit `{name}` {wanted:?} of [model]"));
        }
        let wide = shape[1..].iter().product::<usize>();
        weights.push(match wanted {
            None => values.clone(),
            Some(rows) => {
                let row = |row: Option<usize>| row.map_or(vec![0.0; wide], |r| values[r * wide..][..wide].to_vec());
                rows.into_iter().flat_map(row).collect()
            }
        });
    }
    if let Some(more) = model.encoder.parameters.iter().find(|p| encoder.find(&p.name).is_none()) {
        return Err(format!("its tensor `{}` {:?} is no part of [model]", more.name, more.shape));
    }
    Ok((super::Weights(weights), notes))
}
