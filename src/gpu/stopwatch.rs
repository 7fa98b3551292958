//! Measures how much of the time the queue has work: a timestamp at the begin and at the end of every step, kept on the
//! adapter and read now and then.

use super::device::Gpu;
use super::error::GpuError;
use super::memory::Staging;

/// Timestamps of a number of steps in a row.
pub struct Stopwatch {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    /// Steps that there is room for.
    room: u32,
    /// Steps begun since the last reading.
    begun: u32,
    /// Seconds per tick.
    period: f64,
    /// End of the last step that was read, in ticks.
    last: Option<u64>,
}

/// A timestamp to be written by a pass, before or behind its dispatches.
#[derive(Clone, Copy)]
pub struct Stamp<'s> {
    set: &'s wgpu::QuerySet,
    index: u32,
    behind: bool,
}

impl<'s> Stamp<'s> {
    /// Whether it is written behind the dispatches.
    pub(super) fn behind(&self) -> bool {
        self.behind
    }

    pub(super) fn writes(self) -> wgpu::ComputePassTimestampWrites<'s> {
        wgpu::ComputePassTimestampWrites {
            query_set: self.set,
            beginning_of_pass_write_index: (!self.behind).then_some(self.index),
            end_of_pass_write_index: self.behind.then_some(self.index),
        }
    }
}

/// The times of some steps, by their timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lap {
    /// Seconds from the end of the step before to the end of the last one.
    pub whole: f64,
    /// The part of these seconds between the end of a step and the begin of the next.
    pub idle: f64,
}

impl Stopwatch {
    /// Makes room for `room` steps between readings; `None` where the adapter has no timestamps.
    pub fn new(gpu: &Gpu, room: u32) -> Result<Option<Stopwatch>, GpuError> {
        // OpenGL's timestamps are not to be relied on (gfx-rs/wgpu#9706).
        if !gpu.capabilities().timestamps || gpu.info().backend == wgpu::Backend::Gl {
            return Ok(None);
        }
        let (set, resolved) = gpu.scoped("making timestamp queries", || {
            let set = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("steps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * room,
            });
            let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("steps"),
                size: u64::from(2 * room) * 8,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            (set, resolved)
        })?;
        let period = f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
        Ok(Some(Stopwatch { set, resolved, room, begun: 0, period, last: None }))
    }

    /// The stamps of the next step: before its first pass and behind its last; `None` when there is no more room.
    pub fn step(&mut self) -> Option<[Stamp<'_>; 2]> {
        if self.begun == self.room {
            return None;
        }
        self.begun += 1;
        let at = |index, behind| Stamp { set: &self.set, index, behind };
        Some([at(2 * self.begun - 2, false), at(2 * self.begun - 1, true)])
    }

    /// Lets other work run: what lies between the steps before and behind it is not counted.
    pub fn pause(&mut self) {
        self.last = None;
    }

    /// Records a copy of the timestamps since the last one, for [`lap`](Self::lap); `None` where there are none.
    pub(crate) fn stage(&mut self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) -> Result<Option<Staging>, GpuError> {
        let count = 2 * std::mem::take(&mut self.begun);
        if count == 0 {
            return Ok(None);
        }
        encoder.resolve_query_set(&self.set, 0..count, &self.resolved, 0);
        gpu.stage_raw(encoder, &self.resolved, u64::from(count) * 8).map(Some)
    }

    /// The times of the steps of a copy, which is on the host; the gap between those of the copy before and the first
    /// of them counts.
    pub(crate) fn lap(&mut self, copy: &[u8]) -> Lap {
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(copy);
        let end = ticks[ticks.len() - 1];
        let before = self.last.unwrap_or(ticks[0]);
        let busy: u64 = ticks.chunks_exact(2).map(|step| step[1].saturating_sub(step[0])).sum();
        let whole = end.saturating_sub(before);
        self.last = Some(end);
        Lap { whole: whole as f64 * self.period, idle: whole.saturating_sub(busy) as f64 * self.period }
    }
}
