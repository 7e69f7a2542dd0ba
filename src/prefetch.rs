//! Asking for memory before it is used.
//!
//! Whoever is about to look at many things in places that no cache expects (the groups of a batch of matches, say)
//! would wait for each of them in turn. Asked for together, they come together. Reading them in a first
//! round would do so too, but a processor that waits for a read soon looks no further ahead.

#![allow(unsafe_code, reason = "the language has no safe word for it")]

/// Bytes that come at a time.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Has all of `what` brought near; meant for what is a few lines long. Nobody waits for it, and where there is no
/// such instruction nothing happens.
#[inline]
pub fn prefetch<T: ?Sized>(what: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = std::ptr::from_ref(what).cast::<i8>();
        // SAFETY: it reads nothing that anybody could see, and no address makes it fail.
        let line = |at| unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at)) };
        (0..size_of_val(what)).step_by(LINE).for_each(line);
        // The last byte may lie in one line more.
        if size_of_val(what) > LINE {
            line(size_of_val(what) - 1);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}
