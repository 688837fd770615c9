//! An allocator after Electric Fence (Perens 1987): every allocation lies on pages of its own,
//! against a page that may not be touched. What the page cannot reach is watched by a pattern.
//!
//! ```text
//! At::End     │ no access │ pattern … data │ no access │      pattern after the data only where
//! At::Start   │ no access │ data … pattern │ no access │      their alignment leaves a gap
//! ```
//!
//! An access beyond the page's edge, or to memory that was given back, ends the process with
//! SIGSEGV at once; a changed pattern ends it with SIGABRT when the allocation is given back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where an allocation lies on its pages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// It begins where they begin.
    Start,
    /// It ends where they end, as far as its alignment allows.
    End,
}

/// The allocator of this program: the system's, but within [`against_guard_pages`].
pub(crate) struct GuardPages;

static MODE: AtomicUsize = AtomicUsize::new(SYSTEM);
const SYSTEM: usize = 0;
const START: usize = 1;
const END: usize = 2;

/// Runs `work` with every allocation of the process against guard pages.
pub(crate) fn against_guard_pages<R>(at: At, work: impl FnOnce() -> R) -> R {
    let mode = match at {
        At::Start => START,
        At::End => END,
    };
    let before = MODE.swap(mode, Ordering::SeqCst);
    assert_eq!(before, SYSTEM, "one at a time");
    let result = work();
    MODE.store(SYSTEM, Ordering::SeqCst);
    result
}

/// How many allocations were made against guard pages so far.
pub(crate) fn guarded() -> usize {
    COUNT.load(Ordering::SeqCst)
}

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Reads a byte that may be anywhere: the mistake that the guard pages are there to find.
pub(crate) fn peek(at: *const u8) -> u8 {
    // SAFETY: none. It is sound within an allocation, and beyond one the process is to die of it.
    unsafe { at.read_volatile() }
}

/// Writes a byte anywhere.
pub(crate) fn poke(at: *mut u8) {
    // SAFETY: as in `peek`.
    unsafe { at.write_volatile(!at.read_volatile()) }
}

/// What bytes of our pages that belong to nobody hold.
const PATTERN: u8 = 0xc5;

/// Addresses for all allocations of a process: none is given out twice, so that memory which was
/// given back stays out of reach.
const ADDRESSES: usize = 1 << 38;

/// Reserved for the first allocation against a guard page: some tools refuse so many addresses.
static ARENA: OnceLock<Arena> = OnceLock::new();

struct Arena {
    start: usize,
    page: usize,
    next: AtomicUsize,
}

fn arena() -> &'static Arena {
    ARENA.get_or_init(|| {
        // SAFETY: nobody's pages are replaced.
        let start = unsafe { reserve(ptr::null_mut(), ADDRESSES, 0) };
        // SAFETY: only asks.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        if start == libc::MAP_FAILED || page <= 0 {
            die("cannot reserve addresses for guard pages\n");
        }
        let page = page as usize;
        // The first page guards the first allocation.
        Arena { start: start as usize, page, next: AtomicUsize::new(start as usize + page) }
    })
}

/// Pages without access and without memory: anywhere, or with `MAP_FIXED` in place of those at `at`.
///
/// # Safety
/// Nobody may use the pages that are replaced.
unsafe fn reserve(at: *mut libc::c_void, length: usize, fixed: libc::c_int) -> *mut libc::c_void {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    // SAFETY: the caller's promise.
    unsafe { libc::mmap(at, length, libc::PROT_NONE, flags, -1, 0) }
}

/// The pages of one allocation and the part of them that is its own, as addresses.
struct Place {
    pages: (usize, usize),
    data: (usize, usize),
}

impl Arena {
    fn contains(&self, at: *mut u8) -> bool {
        (self.start..self.start + ADDRESSES).contains(&(at as usize))
    }

    /// The pages around an allocation. Both arrangements fill the page that they are against.
    fn place_of(&self, data: *mut u8, layout: Layout) -> Place {
        let (first, past) = (data as usize, data as usize + layout.size());
        Place {
            pages: (first / self.page * self.page, past.next_multiple_of(self.page)),
            data: (first, past),
        }
    }

    fn allocate(&self, layout: Layout, at: usize) -> *mut u8 {
        let length = layout.size().next_multiple_of(self.page);
        let start = self.next.fetch_add(length + self.page, Ordering::Relaxed);
        if start + length + self.page > self.start + ADDRESSES {
            die("the addresses for guard pages are used up\n");
        }
        let gap = if at == END { (length - layout.size()) / layout.align() * layout.align() } else { 0 };
        // SAFETY: these pages of our own mapping belong to this allocation only, and are writable
        // when they are filled.
        unsafe {
            if libc::mprotect(start as *mut _, length, libc::PROT_READ | libc::PROT_WRITE) != 0 {
                die("cannot make pages accessible\n");
            }
            ptr::write_bytes(start as *mut u8, PATTERN, length);
        }
        COUNT.fetch_add(1, Ordering::Relaxed);
        (start + gap) as *mut u8
    }

    fn give_back(&self, data: *mut u8, layout: Layout) {
        let Place { pages, data } = self.place_of(data, layout);
        let intact = |from: usize, to: usize| {
            // SAFETY: bytes of the pages of this allocation, which are still accessible.
            let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, to - from) };
            bytes.iter().all(|&byte| byte == PATTERN)
        };
        if !intact(pages.0, data.0) || !intact(data.1, pages.1) {
            die("written beside an allocation\n");
        }
        // SAFETY: the pages of an allocation that its owner has given back; new ones without access,
        // which cost no memory, take their place.
        let gone = unsafe { reserve(pages.0 as *mut _, pages.1 - pages.0, libc::MAP_FIXED) };
        if gone == libc::MAP_FAILED {
            die("cannot take pages back\n");
        }
    }
}

/// Ends the process with a line that needs no memory.
fn die(line: &str) -> ! {
    // SAFETY: writes the bytes of a string.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    std::process::abort()
}

// SAFETY: memory comes from the system's allocator, or is whole pages of our own mapping that no
// other allocation gets; which of the two it was, its address tells.
unsafe impl GlobalAlloc for GuardPages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mode = MODE.load(Ordering::Relaxed);
        if mode == SYSTEM {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        }
        arena().allocate(layout, mode)
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        if let Some(arena) = ARENA.get().filter(|arena| arena.contains(data)) {
            return arena.give_back(data, layout);
        }
        // SAFETY: the caller's promise, and the memory is the system's.
        unsafe { System.dealloc(data, layout) }
    }
}
