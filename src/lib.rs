pub mod gpu;
pub mod graph;
pub mod language;
pub mod model;
pub mod ops;
pub mod random;
pub mod reference;
pub mod selftest;
