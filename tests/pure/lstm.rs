//! Norms and inner products of sentences' gradients through an LSTM, from its rows and from the gradients themselves.

use crate::common::sentence_gradients;
use lowland::graph::{Graph, LstmWeights};
use lowland::ops::counts::ROWS;

const WIDTH: u32 = 6;
const UNITS: u32 = 3;

#[test]
fn norms_and_inner_products_of_gradients_count_both_biases() {
    let mut graph = Graph::default();
    let x = graph.input("x", ROWS, WIDTH);
    let made = |graph: &mut Graph| {
        let shapes = [(4 * UNITS, WIDTH), (4 * UNITS, UNITS), (1, 4 * UNITS), (1, 4 * UNITS)];
        let [input, recurrent, input_bias, recurrent_bias] =
            shapes.map(|(rows, cols)| graph.parameter("w", rows, cols));
        LstmWeights { input, recurrent, input_bias, recurrent_bias }
    };
    let (forward, reverse) = (made(&mut graph), made(&mut graph));
    let h = graph.lstm(x, forward, Some(reverse), Some(x));
    sentence_gradients::compare(graph, h);
}
