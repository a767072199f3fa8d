//! Contest rules as disjunctions, and the sizes that follow from them (docs/protocol.md, section 5).
//!
//! A disjunction with weights w and values u says: the weighted sum of the contest's ciphertexts encrypts one of
//! the values. Creation and verification know only disjunctions; the rules differ in this file alone.

use std::ops::Range;

use curve25519_dalek::scalar::Scalar;

use crate::error::{Result, fail};
use crate::transcript::{Transcript, low128};

pub const VERSION: u8 = 1;
/// `u8(version) || u32(roll index) || u64(seen)`
pub const HEADER: usize = 13;
/// `R || s`
pub const SIGNATURE: usize = 64;
/// The longest body of a record.
pub const MAX_BODY: usize = 65_535;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    OneOfK = 1,
    Approval = 2,
    UpToL = 3,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    pub id: String,
    pub rule: Rule,
    /// k, the number of options
    pub options: usize,
    /// L for up-to-L, else 0
    pub limit: usize,
}

/// A ballot style: its contests in order.
pub struct Style {
    pub contests: Vec<Contest>,
    /// Bytes of a ballot
    pub size: usize,
}

/// The factors that a disjunction gives to the contest's ciphertexts.
pub enum Weights<'a> {
    /// One for this ciphertext, none for the others.
    Single(usize),
    /// One for each.
    Ones,
    /// The hashed ρ of one-of-k.
    Hashed(&'a [u128]),
}

pub struct Disjunction<'a> {
    pub weights: Weights<'a>,
    /// m, the number of values
    pub branches: usize,
}

impl Contest {
    pub fn new(id: String, rule: i64, options: i64, limit: i64) -> Result<Self> {
        let rule = match rule {
            1 => Rule::OneOfK,
            2 => Rule::Approval,
            3 => Rule::UpToL,
            _ => fail!("contest {id:?}: no rule {rule}, the rules are 1 one-of-k, 2 approval, 3 up-to-L"),
        };
        if !(2..=100).contains(&options) {
            fail!("contest {id:?}: {options} options, allowed are 2 to 100");
        }
        match rule {
            Rule::UpToL if limit < 1 || limit >= options => {
                fail!("contest {id:?}: limit {limit} is not between 1 and {}", options - 1)
            }
            Rule::OneOfK | Rule::Approval if limit != 0 => fail!("contest {id:?}: limit {limit}, its rule has none"),
            _ => Ok(Self { id, rule, options: options as usize, limit: limit as usize }),
        }
    }

    /// n, the number of ciphertexts that are sent. For one-of-k the last option is implied.
    pub fn ciphertexts(&self) -> usize {
        if self.rule == Rule::OneOfK { self.options - 1 } else { self.options }
    }

    /// What the contest proves; `rho` is what [`Contest::weights`] gives.
    pub fn disjunctions<'a>(&self, rho: &'a [u128]) -> impl Iterator<Item = Disjunction<'a>> + use<'a> {
        let (rule, k, limit) = (self.rule, self.options, self.limit);
        let count = match rule {
            Rule::OneOfK => 1,
            Rule::Approval => k,
            Rule::UpToL => k + 1,
        };
        (0..count).map(move |d| match rule {
            Rule::OneOfK => Disjunction { weights: Weights::Hashed(rho), branches: k },
            _ if d < k => Disjunction { weights: Weights::Single(d), branches: 2 },
            _ => Disjunction { weights: Weights::Ones, branches: limit + 1 },
        })
    }

    /// The sum of all m_d.
    pub fn branches(&self) -> usize {
        self.disjunctions(&[]).map(|d| d.branches).sum()
    }

    /// The challenges that are sent: all but the last of each disjunction.
    pub fn challenges(&self) -> usize {
        self.branches() - self.disjunctions(&[]).count()
    }

    pub fn points(&self) -> usize {
        2 * self.ciphertexts() + 2 * self.branches()
    }

    pub fn size(&self) -> usize {
        32 * self.points() + 16 * self.challenges() + 32 * self.branches()
    }

    /// ρ_0 … ρ_{k−2} of one-of-k, hashed from all ciphertexts; (1) for k = 2; none for the other rules.
    pub fn weights(&self, statement: &[u8], ciphertexts: &[u8]) -> Vec<u128> {
        match self.rule {
            Rule::OneOfK if self.options == 2 => vec![1],
            Rule::OneOfK => {
                let seed = Transcript::new("weights").part(statement).part(ciphertexts).digest();
                let block =
                    |i: usize| Transcript::new("weights-block").part(&seed).part(&(i as u32).to_be_bytes()).digest();
                let count = self.options - 1;
                (0..count.div_ceil(4))
                    .flat_map(|i| block(i).as_chunks::<16>().0.to_vec())
                    .map(|w| low128(&w))
                    .take(count)
                    .collect()
            }
            Rule::Approval | Rule::UpToL => vec![],
        }
    }
}

impl Style {
    pub fn new(number: usize, contests: Vec<Contest>) -> Result<Self> {
        let size = HEADER + contests.iter().map(Contest::size).sum::<usize>() + SIGNATURE;
        if size > MAX_BODY {
            fail!("style {number}: a ballot would have {size} bytes, a record holds {MAX_BODY}");
        }
        Ok(Self { contests, size })
    }
}

impl Disjunction<'_> {
    /// u_j
    pub fn value(&self, j: usize) -> u128 {
        match self.weights {
            Weights::Hashed(rho) => rho.get(j).copied().unwrap_or(0),
            _ => j as u128,
        }
    }

    /// The ciphertexts, of `n`, whose weight is not zero.
    pub fn support(&self, n: usize) -> Range<usize> {
        match self.weights {
            Weights::Single(i) => i..i + 1,
            _ => 0..n,
        }
    }

    /// w_i·x for an i of the support.
    pub fn scale(&self, i: usize, x: Scalar) -> Scalar {
        match self.weights {
            Weights::Hashed(rho) if rho[i] != 1 => Scalar::from(rho[i]) * x,
            _ => x,
        }
    }

    /// Σ w_i·x_i. The weights are public, the x may be secret.
    pub fn weigh(&self, x: &[Scalar]) -> Scalar {
        self.support(x.len()).map(|i| self.scale(i, x[i])).sum()
    }
}
