//! CRC-32C of bytes that come in two parts, without looking at the second part again.
//!
//! A checksum is a polynomial over bits, modulo that of CRC-32C. To append `n` bytes is to multiply it by
//! x^8n and to add the checksum of those bytes. So the checksum of a batch follows from those of its
//! header and of its records by one multiplication, whatever the size. `crc-fast` can do that too, but
//! builds 64 by 64 matrices for each call, which takes longer than the checksum of most batches.

/// The polynomial of CRC-32C, highest power in the lowest bit, as all numbers here.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// x^0.
const ONE: u32 = 1 << 31;
/// Enough for all sizes that a batch can have.
const SIZE_BITS: usize = 32;

/// x to the power of 8, 16, 32 and so on: what each bit of a number of bytes stands for.
#[allow(clippy::indexing_slicing, reason = "as a constant it is checked when it is compiled")]
const POWERS: [u32; SIZE_BITS] = {
    let mut powers = [0; SIZE_BITS];
    let mut power = 1 << 23;
    let mut bit = 0;
    while bit < SIZE_BITS {
        powers[bit] = power;
        power = multiply(power, power);
        bit += 1;
    }
    powers
};

/// What a checksum is multiplied by when so many bytes follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shift(u32);

impl Shift {
    /// For so many bytes, fewer than 4 GiB.
    pub(super) fn by(bytes: usize) -> Self {
        let set = POWERS.iter().enumerate().filter(|(bit, _)| bytes >> bit & 1 == 1);
        Self(set.fold(ONE, |product, (_, power)| multiply(product, *power)))
    }

    /// The checksum of two parts, of which the second has as many bytes as this shift is for.
    pub(super) fn join(self, first: u32, second: u32) -> u32 {
        multiply(self.0, first) ^ second
    }
}

/// The product modulo the polynomial, without branches: chance would have half of them go wrong.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        product ^= b & (a >> bit & 1).wrapping_neg();
        b = b >> 1 ^ POLYNOMIAL & (b & 1).wrapping_neg();
    }
    product
}

#[cfg(test)]
mod tests {
    use super::super::batch::crc32c;
    use super::*;

    #[test]
    fn two_parts_have_the_checksum_of_the_whole() {
        let whole: Vec<u8> = (0..70_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for (first, second) in
            [(0, 0), (0, 9), (9, 0), (1, 1), (40, 100), (40, 65_535), (40, 65_536), (7, 69_993)]
        {
            let (head, rest) = whole[..first + second].split_at(first);
            let joined = Shift::by(second).join(crc32c(head), crc32c(rest));
            assert_eq!(joined, crc32c(&whole[..first + second]), "{first} and {second}");
        }
    }

    /// Zeros far beyond what a test wants to hold: appended in two steps, they give what one step gives.
    #[test]
    fn sizes_add_up() {
        let large = i32::MAX as usize;
        for (a, b) in [(1, large - 1), (large / 2, large - large / 2), (1 << 30, (1 << 30) - 1)] {
            let steps = Shift::by(b).join(Shift::by(a).join(0xdead_beef, 0), 0);
            assert_eq!(steps, Shift::by(a + b).join(0xdead_beef, 0));
        }
    }
}
