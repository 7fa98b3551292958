//! The loss's graph with its tangents along a vector: what quadratic forms are made of.

use std::collections::HashMap;

use super::pass::directions;
use crate::curvature::Subject;
use crate::graph::{Graph, TensorId};
use crate::model::{Given, Recipe};
use crate::ops::counts::MASKED;

/// A forward pass, where it is asked its adjoints, and its tangents along a probe of every parameter.
pub(super) struct Along {
    pub graph: Graph,
    pub loss: TensorId,
    /// Nodes of the forward pass.
    pub forward: usize,
    pub adjoints: Option<HashMap<TensorId, TensorId>>,
    pub tangents: HashMap<TensorId, TensorId>,
    weight: TensorId,
    probes: Vec<TensorId>,
}

impl Along {
    pub fn new(subject: &Subject, adjoints: bool) -> Along {
        let encoder = &subject.model.encoder;
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let forward = graph.nodes().len();
        let weight = graph.input("weight", MASKED, 4);
        let adjoints = adjoints.then(|| graph.gradient(&[(loss, weight)]));
        let seeds = directions(encoder, &mut graph);
        let tangents = graph.tangent_of(forward, &seeds);
        let probes = seeds.into_iter().map(|(_, probe)| probe).collect();
        Along { graph, loss, forward, adjoints, tangents, weight, probes }
    }

    /// The recipe of what is kept, and each parameter's probe.
    pub fn recipe(self, subject: &Subject, keep: &[TensorId]) -> (Recipe, Vec<TensorId>) {
        let Along { mut graph, weight, probes, .. } = self;
        graph.prune(keep);
        graph.fuse();
        let recipe = Recipe::new(graph, &subject.model.encoder, subject.labels)
            .give(Given::Weight, [weight])
            .give(Given::Fresh("the probes"), probes.iter().copied())
            .keep(keep)
            .in_phases();
        (recipe, probes)
    }
}
