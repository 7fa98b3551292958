//! Cuts a list of dispatches so that no submission takes long: on a software adapter a pass of a large model lasts
//! minutes, and what is submitted cannot be called back.
//!
//! Nothing is known before the first run: it begins with a single dispatch and goes on with larger or smaller pieces by
//! what they take (a driver may compile a kernel when it first runs). Later runs take the pieces of the one before,
//! joined or halved by the time that they should take by their workgroups. A list that is short as a whole is not cut
//! at all, and not waited for.

use std::ops::Range;

/// Seconds that a piece should take: an interrupt waits for one, and each costs a tenth of a millisecond.
const SECONDS: f64 = 0.25;

/// A piece of the run before.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    end: usize,
    seconds: f64,
    /// Workgroups.
    work: f64,
}

/// The pieces of a list in its last run, and how long they took.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces(Vec<Piece>);

/// One run in pieces.
#[derive(Debug)]
pub(super) struct Cut<'w> {
    work: &'w [f64],
    /// Ends of the pieces to come, last one first; empty where nothing is known.
    ends: Vec<usize>,
    start: usize,
    /// Dispatches of the next piece, where nothing is known.
    next: usize,
    taken: Vec<Piece>,
}

impl Pieces {
    /// Seconds that each piece should take for the given work of each dispatch: (its range, seconds).
    fn expected<'a>(&'a self, work: &'a [f64]) -> impl Iterator<Item = (Range<usize>, f64)> + 'a {
        let starts = std::iter::once(0).chain(self.0.iter().map(|p| p.end));
        starts.zip(&self.0).map(|(start, p)| {
            let now: f64 = work[start..p.end].iter().sum();
            (start..p.end, if p.work > 0.0 { p.seconds * now / p.work } else { 0.0 })
        })
    }

    /// Whether the whole list may go in one submission.
    pub fn short(&self, work: &[f64]) -> bool {
        work.is_empty() || !self.0.is_empty() && self.expected(work).map(|(_, s)| s).sum::<f64>() <= SECONDS
    }

    /// Begins a run in pieces.
    pub fn cut<'w>(&self, work: &'w [f64]) -> Cut<'w> {
        let mut ends = Vec::new();
        let mut open = 0.0;
        for (range, seconds) in self.expected(work) {
            if open > 0.0 && open + seconds > SECONDS {
                ends.push(range.start);
                open = 0.0;
            }
            if seconds > 2.0 * SECONDS && range.len() > 1 {
                ends.push(range.start + range.len() / 2);
            }
            open += seconds;
        }
        if !ends.is_empty() || !self.0.is_empty() {
            ends.push(work.len());
        }
        ends.reverse();
        Cut { work, ends, start: 0, next: 1, taken: Vec::new() }
    }
}

impl Cut<'_> {
    /// The next piece; `None` at the end.
    pub fn next_piece(&mut self) -> Option<Range<usize>> {
        if self.start == self.work.len() {
            return None;
        }
        let end = self.ends.pop().unwrap_or((self.start + self.next).min(self.work.len()));
        let piece = self.start..end;
        self.start = end;
        Some(piece)
    }

    /// Says what a piece took.
    pub fn took(&mut self, piece: Range<usize>, seconds: f64) {
        self.next = match seconds {
            s if s < SECONDS / 4.0 => 2 * piece.len(),
            s if s > SECONDS => (piece.len() / 2).max(1),
            _ => piece.len(),
        };
        self.taken.push(Piece { end: piece.end, seconds, work: self.work[piece].iter().sum() });
    }

    /// Ends the run; its pieces are those that the next one goes by.
    pub fn finish(self) -> Pieces {
        Pieces(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run whose dispatches take the given seconds each.
    fn run(pieces: &Pieces, work: &[f64], seconds: &[f64]) -> (Vec<Range<usize>>, Pieces) {
        let mut cut = pieces.cut(work);
        let mut all = Vec::new();
        while let Some(piece) = cut.next_piece() {
            cut.took(piece.clone(), seconds[piece.clone()].iter().sum());
            all.push(piece);
        }
        (all, cut.finish())
    }

    fn whole(pieces: &[Range<usize>], n: usize) -> bool {
        pieces[0].start == 0
            && pieces[pieces.len() - 1].end == n
            && pieces.windows(2).all(|w| w[0].end == w[1].start && !w[0].is_empty())
    }

    #[test]
    fn a_short_list_is_cut_once_and_then_whole() {
        let (work, seconds) = (vec![8.0; 100], vec![1e-4; 100]);
        assert!(!Pieces::default().short(&work));
        let (first, known) = run(&Pieces::default(), &work, &seconds);
        assert!(whole(&first, 100) && first.len() < 10, "{first:?}");
        assert!(known.short(&work));
        // A hundred times the work is not short any more.
        assert!(!known.short(&[800.0; 100]));
        assert!(Pieces::default().short(&[]));
    }

    #[test]
    fn a_long_list_comes_to_pieces_of_the_right_length() {
        let work = vec![8.0; 200];
        let seconds: Vec<f64> = (0..200).map(|i| if i % 10 == 0 { 0.2 } else { 0.01 }).collect();
        let mut known = Pieces::default();
        for round in 0..6 {
            let (pieces, next) = run(&known, &work, &seconds);
            assert!(whole(&pieces, 200));
            if round > 3 {
                let longest = next.0.iter().map(|p| p.seconds).fold(0.0, f64::max);
                assert!(longest <= 2.0 * SECONDS && pieces.len() < 60, "{longest} s, {} pieces", pieces.len());
            }
            known = next;
        }
    }

    #[test]
    fn pieces_follow_the_work() {
        let seconds = vec![0.001; 64];
        let (_, known) = run(&Pieces::default(), &[10.0; 64], &seconds);
        let larger: Vec<f64> = seconds.iter().map(|s| 20.0 * s).collect();
        let (pieces, _) = run(&known, &[200.0; 64], &larger);
        assert!(whole(&pieces, 64) && pieces.len() > 3, "{pieces:?}");
    }
}
