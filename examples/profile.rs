//! Where the time of a gradient goes, per dispatch, from timestamps: `cargo run --release --example profile -- 128 4 16 256`.
use lowland::model::*;
use lowland::ops::*;
use std::collections::BTreeMap;

fn main() {
    let a: Vec<u32> = std::env::args().skip(1).map(|s| s.parse().unwrap()).collect();
    let (d, l, t, b) = (a[0], a[1], a[2], a[3]);
    let gpu = lowland::gpu::Gpu::open(&Default::default(), Default::default()).unwrap();
    let config = ModelConfig { vocab_size: 204, hidden_size: d, num_hidden_layers: l, num_attention_heads: 4, intermediate_size: 4 * d, max_position_embeddings: t + 4, ..ModelConfig::default() };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.02, 1);
    let arena = Arena::of(&gpu, &encoder, &weights).unwrap();
    let variants = Variants::choose(gpu.capabilities());
    let mut r = lowland::random::Stream::new(1, lowland::random::Purpose::Test, 0);
    let sentences: Vec<_> = (0..b).map(|_| { let w: Vec<u32> = (0..t - 2).map(|_| r.below(200)).collect(); Vocabulary::mask(&w, r.below(t - 2) as usize) }).collect();
    let dims = dims_for(&sentences, b as usize);
    let pass = GradientPass::new(&gpu, &encoder, &arena, dims, &variants, Labels::Hard).unwrap();
    let s = std::time::Instant::now();
    pass.run(&gpu, &sentences).unwrap();
    println!("first {:.2}s", s.elapsed().as_secs_f64());
    let mut ts: Vec<f64> = (0..7).map(|_| { let s = std::time::Instant::now(); pass.run(&gpu, &sentences).unwrap(); s.elapsed().as_secs_f64() }).collect();
    ts.sort_by(f64::total_cmp);
    let flops = 3.0 * encoder.forward_flops(dims.rows as u64, dims.masked as u64, (b * t * t) as u64) as f64;
    println!("gradient median {:.1} ms, {} dispatches, {:.1} GFLOP -> {:.1} GFLOP/s", ts[3] * 1e3, pass.dispatches(), flops / 1e9, flops / ts[3] / 1e9);
    let mut by: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    let timed = pass.time(&gpu, &sentences).unwrap();
    let total: f64 = timed.iter().map(|x| x.1).sum();
    for (label, s) in &timed { let k = label.split(' ').next().unwrap().to_string(); let k = if k == "linear:forward" { let lab = &label[15..]; if lab.ends_with("weight~") && !lab.contains('(') { "linear TN".into() } else if lab.ends_with('~') { "linear NN".to_string() } else { "linear NT".into() } } else { k }; let e = by.entry(k).or_default(); e.0 += 1; e.1 += s; }
    let mut v: Vec<_> = by.into_iter().collect();
    v.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (k, (n, s)) in v { println!("{k:30} {n:4} {:8.2} ms {:5.1} %", s * 1e3, 100.0 * s / total); }
    println!("sum {:.1} ms", total * 1e3);
    if a.len() > 4 { for (l, s) in timed { println!("{:8.3} ms {}", s * 1e3, l); } }
}
