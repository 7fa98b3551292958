//! vᵀ A_i v of each example for blocks of vectors, without a pass back along the tangents.

use super::along::Along;
use super::pass::Pass;
use super::vectors::ProbeVectors;
use crate::curvature::error::unless_interrupted;
use crate::curvature::{Block, CurvatureError, Subject};
use crate::gpu::{GpuError, Step};
use crate::graph::TensorId;
use crate::model::Recipe;

/// What quadratic forms of one vector give for each example, of the sum of its losses.
#[derive(Clone, Debug, Default)]
pub struct Forms {
    /// vᵀ H_i v.
    pub hessian: Vec<f64>,
    /// vᵀ G_i v.
    pub ggn: Vec<f64>,
    /// ⟨g_i, v⟩.
    pub slope: Vec<f64>,
}

/// Quadratic forms of a block of vectors, an example each, without a pass back along the tangents.
pub struct FormPass {
    pass: Pass,
    probes: ProbeVectors,
    hessian: Option<TensorId>,
    ggn: TensorId,
    slope: TensorId,
}

/// The recipe of quadratic forms, each parameter's probe, and the forms.
struct FormRecipe {
    recipe: Recipe,
    probes: Vec<TensorId>,
    whole: Option<TensorId>,
    ggn: TensorId,
    slope: TensorId,
}

impl FormRecipe {
    fn new(subject: &Subject, hessian: bool) -> FormRecipe {
        let mut along = Along::new(subject, hessian);
        let Along { graph, loss, forward, adjoints, tangents, .. } = &mut along;
        let loss = (*loss, 1.0);
        let ggn = graph.second_order(*forward, Some(loss), None, tangents).expect("the loss's term");
        let whole = hessian.then(|| graph.second_order(*forward, Some(loss), adjoints.as_ref(), tangents)).flatten();
        let slope = graph.sentence_sum(tangents[&loss.0]);
        let keep: Vec<TensorId> = [ggn, slope].into_iter().chain(whole).collect();
        let (recipe, probes) = along.recipe(subject, &keep);
        FormRecipe { recipe, probes, whole, ggn, slope }
    }
}

impl FormPass {
    /// Bytes that quadratic forms take of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject, hessian: bool) -> Result<u64, CurvatureError> {
        Pass::bytes(subject, &FormRecipe::new(subject, hessian).recipe)
    }

    /// Without `hessian`, only what the loss's own term gives.
    pub fn new(subject: &Subject, hessian: bool) -> Result<FormPass, CurvatureError> {
        let FormRecipe { recipe, probes, whole, ggn, slope } = FormRecipe::new(subject, hessian);
        let pass = Pass::new(subject, recipe)?;
        let probes = ProbeVectors::of(subject, &pass, &probes);
        Ok(FormPass { pass, probes, hessian: whole, ggn, slope })
    }

    /// Forms of each vector.
    pub fn run<'b>(&self, subject: &Subject, block: impl Into<Block<'b>>) -> Result<Vec<Forms>, CurvatureError> {
        self.run_batches(subject, 0..subject.batches.len(), block)
    }

    /// Forms of each vector over the examples of some batches.
    pub fn run_batches<'b>(
        &self,
        subject: &Subject,
        batches: std::ops::Range<usize>,
        block: impl Into<Block<'b>>,
    ) -> Result<Vec<Forms>, CurvatureError> {
        let mut all = Vec::new();
        for chunk in block.into().chunks(self.pass.dims().probes as usize) {
            let mut forms = vec![Forms::default(); chunk.len()];
            self.add(subject, batches.clone(), &chunk, &mut forms)?;
            all.append(&mut forms);
        }
        Ok(all)
    }

    /// Forms of each vector as far as they came before an interrupt: of fewer vectors, or, where none is done, of the
    /// first batches only.
    pub fn run_so_far<'b>(&self, subject: &Subject, block: impl Into<Block<'b>>) -> Result<Vec<Forms>, CurvatureError> {
        let mut all = Vec::new();
        for chunk in block.into().chunks(self.pass.dims().probes as usize) {
            let mut forms = vec![Forms::default(); chunk.len()];
            let done = self.add(subject, 0..subject.batches.len(), &chunk, &mut forms);
            match (unless_interrupted(done)?, all.is_empty()) {
                (Some(()), _) => all.append(&mut forms),
                (None, true) => return Ok(forms),
                (None, false) => break,
            }
        }
        Ok(all)
    }

    /// Adds the forms of one chunk of vectors, batch after batch.
    fn add(
        &self,
        subject: &Subject,
        batches: std::ops::Range<usize>,
        chunk: &Block<'_>,
        forms: &mut [Forms],
    ) -> Result<(), CurvatureError> {
        self.probes.write(subject, chunk)?;
        for batch in batches {
            let step = Step { probes: chunk.len() as u32, ..Step::default() };
            let packed = self.pass.run(subject, batch, 1.0, step)?;
            let sentences = packed.sentences as usize;
            let mut read = |id: TensorId, to: fn(&mut Forms) -> &mut Vec<f64>| {
                let sums = read_sums(subject, &self.pass, id, chunk.len(), sentences)?;
                forms.iter_mut().zip(sums).for_each(|(form, sums)| to(form).extend(sums));
                Ok::<_, CurvatureError>(())
            };
            if let Some(hessian) = self.hessian {
                read(hessian, |f| &mut f.hessian)?;
            }
            read(self.ggn, |f| &mut f.ggn)?;
            read(self.slope, |f| &mut f.slope)?;
        }
        Ok(())
    }

    /// (once a batch, once a vector) in multiplications and additions.
    pub fn flops(&self) -> [f64; 2] {
        self.pass.flops
    }

    /// Forgets the activations of the last batch: the next run computes them again.
    pub fn forget(&self) {
        self.pass.resident.set(None);
    }

    /// Seconds of every dispatch for so many probes or draws, from timestamps.
    pub fn time(&self, subject: &Subject, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
        self.pass.time(subject, probes)
    }
}

/// The sums of each sentence that a pass left for some probes, `[probe][sentence]`.
pub(super) fn read_sums(
    subject: &Subject,
    pass: &Pass,
    id: TensorId,
    probes: usize,
    sentences: usize,
) -> Result<Vec<Vec<f64>>, GpuError> {
    let stride = pass.dims().sentences as usize;
    let values: Vec<[f32; 4]> = subject.gpu().read(pass.bound.buffer(id), probes * stride)?;
    Ok(values.chunks_exact(stride).map(|own| own[..sentences].iter().map(|v| f64::from(v[0])).collect()).collect())
}
