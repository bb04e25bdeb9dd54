//! Places of an image that are read back after writing: enough to catch a disk that drops writes, without
//! reading and hashing the image a second time.
use std::collections::BTreeMap;
use std::ops::Bound;

/// A block of a file system.
const BLOCK: u64 = 4096;
/// Besides the first block, which holds the partition table, and the last.
const COUNT: u64 = 62;

/// Places and, once they are written, what must be there.
#[derive(Debug, Default)]
pub(super) struct Samples {
    blocks: BTreeMap<u64, Option<Vec<u8>>>,
    image_bytes: u64,
}

impl Samples {
    /// First, last, and one by chance out of each of 62 equal stretches: no part of a disk is left out.
    pub(super) fn choose(image_bytes: u64) -> Self {
        let count = image_bytes.div_ceil(BLOCK);
        let mut blocks = BTreeMap::from([(0, None), (count.saturating_sub(1) * BLOCK, None)]);
        for n in 0..COUNT {
            let (from, to) = (stretch(count, n), stretch(count, n + 1));
            if from < to {
                blocks.insert(rand::random_range(from..to) * BLOCK, None);
            }
        }
        Self { blocks, image_bytes }
    }

    /// Remembers the places in a stretch of the image that is written; `None`: zeros. Stretches begin at
    /// blocks.
    pub(super) fn take(&mut self, offset: u64, len: u64, data: Option<&[u8]>) {
        let inside = (Bound::Included(offset), Bound::Excluded(offset.saturating_add(len)));
        for (at, block) in self.blocks.range_mut(inside) {
            let size = usize::try_from(BLOCK.min(self.image_bytes - at)).unwrap_or(0);
            *block = match data {
                None => Some(vec![0; size]),
                Some(data) => usize::try_from(at - offset)
                    .ok()
                    .and_then(|start| data.get(start..start.checked_add(size)?))
                    .map(<[u8]>::to_vec),
            };
        }
    }

    /// Where what must be.
    pub(super) fn taken(&self) -> Vec<(u64, Vec<u8>)> {
        self.blocks.iter().filter_map(|(at, block)| Some((*at, block.clone()?))).collect()
    }
}

/// First block of stretch `n`. No overflow: an image has less than 2^52 blocks.
fn stretch(count: u64, n: u64) -> u64 {
    count * n / COUNT
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_sample_is_what_the_image_holds_there(
            image in prop::collection::vec(any::<u8>(), 1..200_000),
            chunk in prop::sample::select(vec![4096_usize, 16384, 65536]),
        ) {
            let mut samples = Samples::choose(image.len() as u64);
            for (n, data) in image.chunks(chunk).enumerate() {
                let data = if n % 3 == 2 { None } else { Some(data) };
                let len = image.len().min((n + 1) * chunk) - n * chunk;
                samples.take((n * chunk) as u64, len as u64, data);
            }
            let taken = samples.taken();
            prop_assert_eq!(taken.first().map(|(at, _)| *at), Some(0));
            let last = taken.last().unwrap();
            prop_assert_eq!(last.0 + last.1.len() as u64, image.len() as u64);
            for (at, bytes) in taken {
                let at = usize::try_from(at).unwrap();
                let zeros = at / chunk % 3 == 2;
                let expected = &image[at..image.len().min(at + 4096)];
                let same = if zeros { bytes.iter().all(|b| *b == 0) } else { bytes == expected };
                prop_assert!(same);
            }
        }
    }

    #[test]
    fn no_stretch_of_a_large_image_is_left_out() {
        let image = 1_u64 << 40;
        let mut samples = Samples::choose(image);
        samples.take(0, image, None);
        let places: Vec<u64> = samples.taken().into_iter().map(|(at, _)| at).collect();
        assert!(places.len() >= 62, "{}", places.len());
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] <= image / 31 + 1), "{places:?}");
    }

    #[test]
    fn what_was_not_written_is_not_expected() {
        let mut samples = Samples::choose(1 << 20);
        samples.take(0, 4096, None);
        assert_eq!(samples.taken(), [(0, vec![0; 4096])]);
    }
}
