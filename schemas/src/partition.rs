//! Which partition a key belongs to: murmur2, as Kafka's Java client does it, so that any stock producer agrees.

/// The partition of a partition key, which is the key or a leading part of it (see [`crate::Key::prefix`]).
/// A count of 0 is taken as 1.
pub fn partition_of(partition_key: &[u8], partitions: u32) -> u32 {
    let positive = murmur2(partition_key) & 0x7fff_ffff;
    positive % partitions.max(1)
}

fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Java counts the length in an int, too.
    let mut h = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (at, byte) in tail.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * at);
    }
    if !tail.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_java_client() {
        // The vectors of the Java client's own UtilsTest.
        let vectors = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (text, expected) in vectors {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), expected, "{text}");
        }
    }

    #[test]
    fn negative_hashes_give_a_partition_too() {
        // toPositive clears the sign bit; taking the absolute value would give another partition.
        assert_eq!(partition_of(b"21", 12), (-973_932_308_i32 & 0x7fff_ffff).cast_unsigned() % 12);
        assert_eq!(partition_of(b"21", 1), 0);
        assert_eq!(partition_of(b"21", 0), 0);
    }
}
