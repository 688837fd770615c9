//! Slices that are gone through piece by piece.

/// The first `n` elements, which are no longer in `from`.
#[inline(always)]
pub(super) fn cut<'a, T>(from: &mut &'a [T], n: usize) -> &'a [T] {
    let (head, rest) = from.split_at(n);
    *from = rest;
    head
}

/// [`cut`] of a slice to be written.
#[inline(always)]
pub(super) fn cut_mut<'a, T>(from: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let (head, rest) = std::mem::take(from).split_at_mut(n);
    *from = rest;
    head
}
