fn main() {
    let resolved = lowland::config::load(std::env::args().nth(1).unwrap().as_ref(), &std::env::args().skip(2).collect::<Vec<_>>()).unwrap();
    let gpu = lowland::gpu::Gpu::open(&Default::default(), Default::default()).unwrap();
    struct P;
    impl lowland::train::Observer for P { fn progress(&self, p: &lowland::train::Progress) { println!("{} {:.4} {:?} {:.0}/s left {:.0}", p.step, p.loss, p.evaluation.as_ref().map(|e| e.excess_loss), p.sentences_per_second, p.seconds_left); } fn note(&self, t: &str) { println!("{t}"); } }
    println!("{:#?}", lowland::train::plan(&gpu, &resolved).unwrap());
    let t = std::time::Instant::now();
    println!("{:?}", lowland::train::run(&gpu, &resolved, &P));
    println!("{:?}", t.elapsed());
}
