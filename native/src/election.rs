//! What every ballot of an election is bound to, and the parts of a ballot that creation and verification share.

use std::collections::HashMap;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::traits::IsIdentity;

use crate::error::{Result, fail};
use crate::layout::{Contest, Style};
use crate::packed::Roll;
use crate::transcript::Transcript;

pub struct Election {
    /// The 64 bytes of section 5.
    pub context: [u8; 64],
    /// K, encoded and decoded
    pub key: [u8; 32],
    pub key_point: RistrettoPoint,
    pub styles: Vec<Style>,
    /// The style of each unit number, −1 where nobody votes
    unit_styles: Vec<i16>,
}

/// Who votes on what: the part of every transcript that the roll decides.
#[derive(Clone, Copy)]
pub struct Voter<'a> {
    pub roll_index: u32,
    pub unit: u32,
    pub style: u16,
    pub public_key: &'a [u8; 32],
}

impl Election {
    pub fn new(context: [u8; 64], key: [u8; 32], styles: Vec<Vec<Contest>>, unit_styles: &[u8]) -> Result<Self> {
        let point = CompressedRistretto(key).decompress().filter(|point| !point.is_identity());
        let Some(point) = point else {
            fail!("key: the identity, or not the canonical encoding of a ristretto255 point");
        };
        if styles.len() > i16::MAX as usize {
            fail!("styles: {}, at most {} are possible", styles.len(), i16::MAX);
        }
        let (unit_styles, []) = unit_styles.as_chunks::<2>() else {
            fail!("unit_styles: {} bytes, not a multiple of 2", unit_styles.len());
        };
        let unit_styles: Vec<i16> = unit_styles.iter().map(|style| i16::from_be_bytes(*style)).collect();
        if let Some(unit) = unit_styles.iter().position(|style| *style < -1 || *style >= styles.len() as i16) {
            fail!("unit_styles[{unit}]: there is no style {}", unit_styles[unit]);
        }
        same_contest_everywhere(&styles)?;
        let styles = styles.into_iter().enumerate().map(|(number, contests)| Style::new(number, contests));
        Ok(Self { context, key, key_point: point, styles: styles.collect::<Result<_>>()?, unit_styles })
    }

    pub fn style(&self, number: usize) -> Result<&Style> {
        match self.styles.get(number) {
            Some(style) => Ok(style),
            None => fail!("there is no style {number}, the election has {}", self.styles.len()),
        }
    }

    /// The contest of this id, which is the same in every style.
    pub fn contest(&self, id: &str) -> Option<&Contest> {
        self.styles.iter().flat_map(|style| &style.contests).find(|contest| contest.id == id)
    }

    /// The row of the roll as a voter with their style; none outside the roll or where nobody votes. The public key
    /// is not checked.
    pub fn voter<'a>(&self, roll: Roll<'a>, roll_index: u32) -> Option<(Voter<'a>, &Style)> {
        let (public_key, unit) = roll.row(roll_index)?;
        let style = u16::try_from(*self.unit_styles.get(unit as usize)?).ok()?;
        Some((Voter { roll_index, unit, style, public_key }, &self.styles[style as usize]))
    }

    /// S, the prefix of every hash of a contest: it binds election, voter and question.
    pub fn statement(&self, voter: &Voter, contest: &Contest) -> Vec<u8> {
        let mut s = Vec::with_capacity(160);
        s.extend_from_slice(&self.context);
        s.extend_from_slice(&voter.roll_index.to_be_bytes());
        s.extend_from_slice(&voter.unit.to_be_bytes());
        s.extend_from_slice(&voter.style.to_be_bytes());
        s.extend_from_slice(&(contest.id.len() as u32).to_be_bytes());
        s.extend_from_slice(contest.id.as_bytes());
        s.push(contest.rule as u8);
        s.extend_from_slice(&(contest.options as u16).to_be_bytes());
        s.extend_from_slice(&(contest.limit as u16).to_be_bytes());
        s.extend_from_slice(voter.public_key);
        s
    }

    /// c of the ballot's signature.
    pub fn signature_challenge(&self, voter: &Voter, commitment: &[u8; 32], unsigned: &[u8]) -> u128 {
        Transcript::new("ballot-signature")
            .part(&self.context)
            .part(&voter.unit.to_be_bytes())
            .part(&voter.style.to_be_bytes())
            .part(voter.public_key)
            .part(commitment)
            .part(unsigned)
            .challenge()
    }
}

/// E, the hash of a whole contest.
pub fn challenge_hash(statement: &[u8], ciphertexts: &[u8], rho: &[u128], commitments: &[u8]) -> [u8; 64] {
    let transcript = Transcript::new("challenge").part(statement).part(ciphertexts).begin(16 * rho.len());
    rho.iter().fold(transcript, |t, weight| t.piece(&weight.to_le_bytes())).part(commitments).digest()
}

/// e_d, the challenge that the branches of disjunction d share.
pub fn branch_challenge(challenge_hash: &[u8; 64], d: usize) -> u128 {
    Transcript::new("branch").part(challenge_hash).part(&(d as u16).to_be_bytes()).challenge()
}

/// Contests are told apart by id, so an id must mean one thing, and occur once on a ballot.
fn same_contest_everywhere(styles: &[Vec<Contest>]) -> Result<()> {
    let mut known: HashMap<&str, (&Contest, usize)> = HashMap::new();
    for (number, contests) in styles.iter().enumerate() {
        for contest in contests {
            match known.insert(&contest.id, (contest, number)) {
                Some((_, last)) if last == number => fail!("style {number}: contest {:?} occurs twice", contest.id),
                Some((other, last)) if other != contest => {
                    fail!("contest {:?} differs between styles {last} and {number}", contest.id)
                }
                _ => {}
            }
        }
    }
    Ok(())
}
