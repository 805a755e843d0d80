//! Memory that the kernel can send from: an anonymous file, written once.

#![expect(unsafe_code, reason = "maps a file and lends the mapping to the kernel as a read buffer")]

use std::{io, os::fd::OwnedFd, ptr::NonNull, rc::Rc, slice};

use monoio::buf::IoBufMut;
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

/// The only writable view of a memfd.
///
/// The file is sealed so that no second one can ever be made: whoever holds
/// the descriptor alone can read, and what was published stays as it is.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `create`, and every pointer into it
        // came from a borrow of `self` or from a `Tail` that holds an `Rc` of it.
        if let Err(error) = unsafe { munmap(self.start.as_ptr().cast(), self.len) } {
            debug_assert!(false, "munmap of our own mapping: {error}");
        }
    }
}

/// Makes a memfd of `capacity` bytes and its only writable mapping.
///
/// # Errors
/// When the process has no descriptor or memory left.
pub(super) fn create(capacity: usize) -> io::Result<(OwnedFd, Writable)> {
    let fd = memfd_create("millrace-segment", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, capacity as u64)?;
    // SAFETY: a fresh shared mapping at an address of the kernel's choice; the
    // file is as long as the mapping and sealed below against shrinking.
    let start = unsafe {
        mmap(std::ptr::null_mut(), capacity, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &fd, 0)?
    };
    let Some(start) = NonNull::new(start.cast()) else {
        return Err(io::ErrorKind::OutOfMemory.into());
    };
    let mapping = Mapping { start, len: capacity };
    // FUTURE_WRITE and not WRITE: the latter waits for pages in flight.
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL)?;
    Ok((fd, Writable { mapping: Rc::new(mapping), filled: 0 }))
}

/// The writer's end of a memfd: bytes `0..filled` hold something.
#[derive(Debug)]
pub(super) struct Writable {
    mapping: Rc<Mapping>,
    filled: usize,
}

impl Writable {
    /// Bytes that hold something.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Bytes that may still be written.
    pub(super) fn room(&self) -> usize {
        self.mapping.len - self.filled
    }

    /// What is held from `from` on, to be worked over in place. `from` must be
    /// at or behind all that was published.
    pub(super) fn tail_mut(&mut self, from: usize) -> &mut [u8] {
        let len = self.filled - from;
        // SAFETY: within the mapping, and this is its only writer: a `Tail` in
        // flight only covers bytes from `filled` on. Readers of other threads
        // read published bytes alone, all of them before `from`.
        unsafe { slice::from_raw_parts_mut(self.mapping.start.as_ptr().add(from), len) }
    }

    /// Forgets what is held from `to` on.
    pub(super) fn truncate(&mut self, to: usize) {
        self.filled = self.filled.min(to);
    }

    /// Copies as much of `bytes` as there is room for; returns how much.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        let from = self.filled;
        self.filled += n;
        self.tail_mut(from).copy_from_slice(&bytes[..n]);
        n
    }

    /// The free room as a buffer to read into, at most `limit` bytes.
    pub(super) fn tail(&self, limit: usize) -> Tail {
        Tail { mapping: Rc::clone(&self.mapping), at: self.filled, len: self.room().min(limit), read: 0 }
    }

    /// Takes a filled buffer back.
    pub(super) fn took(&mut self, tail: &Tail) {
        debug_assert!(Rc::ptr_eq(&self.mapping, &tail.mapping) && tail.at == self.filled);
        self.filled = tail.at + tail.read;
    }
}

/// Free room of a segment, lent to one read. Keeps the mapping alive for as
/// long as the kernel may write into it, also when the read is abandoned.
#[derive(Debug)]
pub(crate) struct Tail {
    mapping: Rc<Mapping>,
    at: usize,
    len: usize,
    read: usize,
}

// SAFETY: `write_ptr..+bytes_total` lies in the mapping, which `self` keeps
// alive at a fixed address; nobody else writes it until `took`.
unsafe impl IoBufMut for Tail {
    fn write_ptr(&mut self) -> *mut u8 {
        // SAFETY: `at <= len` of the mapping.
        unsafe { self.mapping.start.as_ptr().add(self.at) }
    }

    fn bytes_total(&mut self) -> usize {
        self.len
    }

    unsafe fn set_init(&mut self, pos: usize) {
        self.read = pos;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_cannot_exist() {
        let (fd, _writable) = create(1 << 16).unwrap();
        assert!(rustix::io::pwrite(&fd, b"x", 0).is_err(), "write");
        assert!(ftruncate(&fd, 1).is_err(), "shrink");
        assert!(ftruncate(&fd, 1 << 20).is_err(), "grow");
        // SAFETY: a fresh mapping that is expected to be refused.
        let second =
            unsafe { mmap(std::ptr::null_mut(), 1 << 16, ProtFlags::WRITE, MapFlags::SHARED, &fd, 0) };
        assert!(second.is_err(), "map writable");
    }

    #[test]
    fn what_is_pushed_is_what_the_descriptor_reads() {
        let (fd, mut writable) = create(4096).unwrap();
        assert_eq!(writable.push(&[7; 4000]), 4000);
        assert_eq!(writable.push(&[8; 4000]), 96);
        assert_eq!(writable.room(), 0);
        let mut read = vec![0; 4096];
        assert_eq!(rustix::io::pread(&fd, &mut read, 0).unwrap(), 4096);
        assert_eq!(read, writable.tail_mut(0));
        writable.truncate(10);
        assert_eq!((writable.filled(), writable.tail_mut(4).len()), (10, 6));
    }
}
