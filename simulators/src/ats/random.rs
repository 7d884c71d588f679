//! Seeded chance: one generator per applicant, so that any applicant can be made again without the others.

use fastrand::Rng;
use uuid::Uuid;

/// Steps of the splitmix64 generator: well-mixed bits from neighbouring numbers.
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The generator for one thing out of many: `purpose` keeps streams of the same seed apart.
pub(crate) fn stream(seed: u64, purpose: u64, index: u64) -> Rng {
    Rng::with_seed(mix(mix(mix(seed) ^ purpose) ^ index))
}

/// True in `share` of 1,000 cases.
pub(crate) fn per_mille(rng: &mut Rng, share: u32) -> bool {
    rng.u32(0..1_000) < share
}

/// One of `items`, which must not be empty.
pub(crate) fn pick<'a, T: ?Sized>(rng: &mut Rng, items: &[&'a T]) -> &'a T {
    items[rng.usize(..items.len())]
}

pub(crate) fn uuid(rng: &mut Rng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid()
}

/// An id that follows from a name: the same in every simulated ATS.
pub(crate) fn uuid_of(name: &str) -> Uuid {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    uuid(&mut stream(seed, 0, 0))
}

/// A GUID as one of the ATS's older parts would write it: upper case, or mixed.
pub(crate) fn odd_case(rng: &mut Rng, id: &str) -> String {
    if rng.bool() {
        return id.to_ascii_uppercase();
    }
    id.chars().map(|c| if rng.bool() { c.to_ascii_uppercase() } else { c }).collect()
}
