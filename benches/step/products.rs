//! Plain matrix products in the three layouts.

use std::collections::HashMap;
use std::time::Instant;

use lowland::gpu::{Count, Gpu, Step};
use lowland::graph::{Dims, ExecutionPlan, Graph, Role};
use lowland::ops::batch::BatchLayout;
use lowland::ops::{BatchBuffers, Device, Layout, Variants};
use lowland::random::{Purpose, Stream};
use serde_json::{Value, json};

use crate::Error;
use crate::peer::Peer;
use crate::race::{Times, WARM_UP};

/// C [m, n] with a depth of k.
#[derive(Clone, Copy)]
pub struct Product {
    pub layout: Layout,
    pub m: u32,
    pub k: u32,
    pub n: u32,
    /// Where it comes from.
    pub what: &'static str,
}

/// 512³ and 1024³, 512 x 512 over several depths, then what a layer of some widths multiplies: rows of tokens through
/// its four weights, forward (NT), to the gradient of the input (NN) and of the weight (TN).
pub fn shapes(models: &[(u32, u32)]) -> Vec<Product> {
    let mut all = Vec::new();
    for n in [512, 1024] {
        for layout in [Layout::NT, Layout::NN, Layout::TN] {
            all.push(Product { layout, m: n, k: n, n, what: "square" });
        }
    }
    // One size of the result, deeper and deeper: a rate that falls asks for blocks over the depth.
    for k in [128, 512, 2048, 8192] {
        for layout in [Layout::NT, Layout::NN, Layout::TN] {
            all.push(Product { layout, m: 512, k, n: 512, what: "depth" });
        }
    }
    for (d, rows) in models.iter().copied() {
        for (inputs, outputs, what) in
            [(d, 3 * d, "queries, keys, values"), (d, d, "attention output"), (d, 4 * d, "up"), (4 * d, d, "down")]
        {
            all.push(Product { layout: Layout::NT, m: rows, k: inputs, n: outputs, what });
            all.push(Product { layout: Layout::NN, m: rows, k: outputs, n: inputs, what });
            all.push(Product { layout: Layout::TN, m: outputs, k: rows, n: inputs, what });
        }
    }
    all
}

impl Product {
    /// Billions of operations per second, when it takes `seconds` seconds.
    pub fn rate(&self, seconds: f64) -> f64 {
        2e-9 * f64::from(self.m) * f64::from(self.k) * f64::from(self.n) / seconds
    }

    /// The numbers for the JSON file.
    pub fn json(&self, times: &Times) -> Value {
        let mut all = times.json();
        all["layout"] = json!(format!("{:?}", self.layout));
        all["shape"] = json!([self.m, self.k, self.n]);
        all["what"] = json!(self.what);
        all["gflops"] = json!(self.rate(times.seconds()));
        all
    }

    /// Times it beside the peer, dispatch and wait counted in.
    pub fn race(&self, gpu: &Gpu, peer: &mut Option<Peer>, runs: usize) -> Result<Times, Error> {
        let Product { layout, m, k, n, .. } = *self;
        let mut graph = Graph::default();
        let mut matrix = |name: &str, [rows, cols]: [u32; 2]| graph.input(name, Count::Fixed(rows), cols);
        let (a, b) = match layout {
            Layout::NT => (matrix("a", [m, k]), matrix("b", [n, k])),
            Layout::NN => (matrix("a", [m, k]), matrix("b", [k, n])),
            Layout::TN => (matrix("a", [k, m]), matrix("b", [k, n])),
        };
        let c = graph.product(layout, a, b, None, None);
        let dims = Dims { rows: 1, masked: 1, sentences: 1, probes: 1, longest: 0 };
        let variants = Variants::choose(gpu.capabilities());
        let tables = BatchLayout { tables: [4; 3], first_position: 2, segment: variants.sums().segment };
        let batch = BatchBuffers::new(gpu, &dims, &tables, &variants, 4, false)?;
        let mut random = Stream::new(1, Purpose::Test, 1);
        let mut outside = HashMap::new();
        for (id, tensor) in graph.tensors().filter(|(_, t)| t.role == Role::Input) {
            let buffer = gpu.buffer(&tensor.name, dims.bytes(tensor))?;
            let values: Vec<f32> = (0..dims.bytes(tensor) / 4).map(|_| random.normal() as f32).collect();
            gpu.write(&buffer, &values);
            outside.insert(id, buffer);
        }
        let plan = ExecutionPlan::new(&Device::new(gpu, variants), &graph, dims, &batch, &outside, &[c])?;
        let order = json!({ "product": { "layout": format!("{layout:?}"), "m": m, "k": k, "n": n } });
        let mut times = Times::default();
        for round in 0..runs + WARM_UP {
            let start = Instant::now();
            plan.run(gpu, &Step::default())?;
            let ours = start.elapsed().as_secs_f64();
            let theirs = peer.as_mut().map(|peer| peer.seconds(order.clone())).transpose()?;
            if round >= WARM_UP {
                times.push(ours, theirs);
            }
        }
        Ok(times)
    }
}
