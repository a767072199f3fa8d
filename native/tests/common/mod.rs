//! A small election with every contest rule, and its ballots. Randomness is a hash of a name, the same in every run.
#![allow(dead_code)] // each test file uses its part

use ballotboard_native::arithmetic::Plain;
use ballotboard_native::create::{Request, signed};
use ballotboard_native::election::{Election, Voter};
use ballotboard_native::layout::Contest;
use ballotboard_native::packed::Roll;
use ballotboard_native::transcript::Transcript;
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;

pub const STYLES: usize = 5;

pub struct World {
    pub election: Election,
    /// Four voters of each style in turn
    pub roll: Vec<u8>,
    /// One ballot per voter
    pub ballots: Vec<Vec<u8>>,
}

impl World {
    pub fn roll(&self) -> Roll<'_> {
        Roll::new(&self.roll).unwrap()
    }

    pub fn bodies(&self) -> Vec<&[u8]> {
        self.ballots.iter().map(Vec::as_slice).collect()
    }
}

pub fn scalar(name: &str) -> Scalar {
    Transcript::new(name).scalar()
}

pub fn bytes<const N: usize>(name: &str) -> [u8; N] {
    Transcript::new(name).digest()[..N].try_into().unwrap()
}

pub fn world() -> World {
    let contest = |id: &str, rule, options, limit| Contest::new(id.into(), rule, options, limit).unwrap();
    let styles = vec![
        vec![contest("yes-no", 1, 2, 0)],
        vec![contest("mayor", 1, 6, 0)],
        vec![contest("board", 2, 3, 0)],
        vec![contest("council", 3, 4, 2)],
        vec![contest("mayor", 1, 6, 0), contest("council", 3, 4, 2)],
    ];
    let choices: [&[u8]; STYLES] =
        [&[0, 1], &[0, 0, 1, 0, 0, 0], &[1, 0, 1], &[0, 1, 1, 0], &[0, 0, 0, 0, 0, 1, 0, 0, 0, 0]];
    let unit_styles: Vec<u8> = (0..STYLES as i16).flat_map(i16::to_be_bytes).chain((-1i16).to_be_bytes()).collect();
    let key = RistrettoPoint::mul_base(&scalar("joint key")).compress().to_bytes();
    let election = Election::new(bytes("context"), key, styles, &unit_styles).unwrap();

    let (mut roll, mut ballots) = (vec![], vec![]);
    for roll_index in 0..4 * STYLES as u32 {
        let style = roll_index as usize % STYLES;
        let secret = scalar(&format!("credential {roll_index}"));
        let public_key = RistrettoPoint::mul_base(&secret).compress().to_bytes();
        roll.extend_from_slice(&public_key);
        roll.extend_from_slice(&(style as u32).to_be_bytes());
        let voter = Voter { roll_index, unit: style as u32, style: style as u16, public_key: &public_key };
        let request = Request { voter, seen: 9, seed: &bytes(&format!("seed {roll_index}")), choices: choices[style] };
        ballots.push(signed(Plain, &election, &[request], &[secret], 1).unwrap().remove(0));
    }
    World { election, roll, ballots }
}

/// Runs the block once with dalek's arithmetic and, where this processor has it, once in lanes.
#[macro_export]
macro_rules! with_each_arithmetic {
    (|$arithmetic:ident| $body:block) => {
        let $arithmetic = ballotboard_native::arithmetic::Plain;
        $body
        #[cfg(target_arch = "x86_64")]
        if let Some($arithmetic) = ballotboard_native::lanes::Lanes::detect() {
            $body
        }
    };
}
