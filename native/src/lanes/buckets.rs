//! Sums of many buckets of points: the inner loop of both the multi-scalar multiplication and the homomorphic sums.

use core::arch::x86_64::*;

use super::lane_functions;
use super::point::{Columns, Niels, Niels8};

/// A term of a sum: the number of a point, and whether it is subtracted.
#[derive(Clone, Copy)]
pub struct Term(u32);

impl Term {
    pub fn new(point: u32, negative: bool) -> Self {
        debug_assert!(point < 1 << 31);
        Self(point << 1 | negative as u32)
    }

    fn point(self) -> usize {
        (self.0 >> 1) as usize
    }

    fn negative(self) -> u8 {
        (self.0 & 1) as u8
    }
}

/// Terms in order of their bucket, of which there is a fixed number.
pub struct Buckets {
    terms: Vec<Term>,
    runs: Vec<Run>,
}

/// The terms of a bucket.
#[derive(Clone, Copy, Default)]
struct Run {
    bucket: u32,
    start: u32,
    length: u32,
}

impl Buckets {
    /// Takes up to `terms` terms in `buckets` buckets.
    pub fn new(buckets: usize, terms: usize) -> Self {
        Self { terms: vec![Term::new(0, false); terms], runs: vec![Run::default(); buckets] }
    }

    /// Replaces the contents by these terms, each with the number of its bucket: a counting sort.
    pub fn fill(&mut self, entries: impl Iterator<Item = (usize, Term)> + Clone) {
        for (number, run) in self.runs.iter_mut().enumerate() {
            *run = Run { bucket: number as u32, start: 0, length: 0 };
        }
        for (bucket, _) in entries.clone() {
            self.runs[bucket].length += 1;
        }
        let mut start = 0;
        for run in &mut self.runs {
            run.start = start;
            start += run.length;
        }
        for (bucket, term) in entries {
            let run = &mut self.runs[bucket];
            self.terms[run.start as usize] = term;
            run.start += 1;
        }
        for run in &mut self.runs {
            run.start -= run.length;
        }
    }
}

lane_functions! {
    /// Gives the sum of every bucket that is not empty to `emit`, with its number, as one lane of the columns. Eight
    /// buckets are summed at a time, one per lane; sorting makes their lengths alike.
    pub fn sum_buckets(points: &[Niels], buckets: &Buckets, mut emit: impl FnMut(usize, &Columns, usize)) {
        let terms = &buckets.terms;
        let mut runs: Vec<Run> = buckets.runs.iter().filter(|run| run.length > 0).copied().collect();
        runs.sort_unstable_by_key(|run| core::cmp::Reverse(run.length));
        let mut columns = [[0; 8]; 20];
        for group in runs.chunks(8) {
            let mut lanes = [Run::default(); 8];
            lanes[..group.len()].copy_from_slice(group);
            let steps = |step: u32| step_terms(points, terms, &lanes, step);
            let (operands, negative) = steps(0);
            let mut sum = Niels8::gather(operands).to_extended(negative);
            let mut next = steps(1);
            for step in 1..lanes[0].length {
                let (operands, negative) = next;
                next = steps(step + 1);
                prefetch(&next.0);
                sum = sum.add_niels(Niels8::gather(operands), negative);
            }
            sum.store(&mut columns);
            for (lane, run) in group.iter().enumerate() {
                emit(run.bucket as usize, &columns, lane);
            }
        }
    }

    /// The operands of a step and the lanes that subtract them; the identity in lanes whose run has ended.
    fn step_terms<'a>(points: &'a [Niels], terms: &[Term], lanes: &[Run; 8], step: u32) -> ([&'a Niels; 8], __mmask8) {
        let mut operands = [&Niels::IDENTITY; 8];
        let mut negative = 0;
        for (lane, run) in lanes.iter().enumerate() {
            if step < run.length {
                let term = terms[(run.start + step) as usize];
                operands[lane] = &points[term.point()];
                negative |= term.negative() << lane;
            }
        }
        (operands, negative)
    }

    fn prefetch(points: &[&Niels; 8]) {
        for point in points {
            let start: *const Niels = *point;
            _mm_prefetch::<_MM_HINT_T0>(start.cast());
            _mm_prefetch::<_MM_HINT_T0>(start.cast::<i8>().wrapping_add(64));
        }
    }
}
