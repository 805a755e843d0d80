//! Memory that the kernel can send from: an anonymous file, written once.
//!
//! Written with `pwrite` from a buffer that is still in the cache, which costs
//! less than reading into a mapping: a whole page is taken over without being
//! cleared first, and without a fault.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    io::{Errno, pread, pwrite},
};

use super::discard::discard;

/// How much of this memory there is: somewhere, and with that in some whole.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: AtomicU64,
    whole: Option<Arc<Held>>,
}

impl Held {
    /// Nothing yet, as a part of `whole`.
    pub(crate) fn part_of(whole: Arc<Self>) -> Self {
        Self { whole: Some(whole), ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.whole.iter().for_each(|whole| whole.add(bytes));
    }

    fn sub(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.whole.iter().for_each(|whole| whole.sub(bytes));
    }
}

/// A memfd of fixed size.
#[derive(Debug)]
pub(super) struct Memory {
    fd: Option<OwnedFd>,
    held: Arc<Held>,
    /// As so much.
    counts: AtomicU64,
}

impl Memory {
    /// `capacity` bytes, which it keeps for its whole life, and which count as `held`.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(super) fn new(capacity: usize, held: Arc<Held>) -> io::Result<Self> {
        let fd = memfd_create("millrace-segment", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let capacity = capacity as u64;
        ftruncate(&fd, capacity)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        held.add(capacity);
        Ok(Self { fd: Some(fd), held, counts: AtomicU64::new(capacity) })
    }

    /// No more than the `written` first bytes will ever be.
    pub(super) fn finish(&self, written: usize) {
        let before = self.counts.swap(written as u64, Ordering::Relaxed);
        self.held.sub(before - written as u64);
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("it is taken only when dropped").as_fd()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.held.sub(*self.counts.get_mut());
        self.fd.take().into_iter().for_each(discard);
    }
}

/// Writes all of `bytes` at `offset`.
///
/// # Errors
/// When there is no memory left; what was written before that stands.
pub(super) fn write_at(fd: impl AsFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match pwrite(&fd, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::StorageFull.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Fills `buffer` from `offset` on.
///
/// # Errors
/// When the file ends before that, or cannot be read.
pub(crate) fn read_at(fd: impl AsFd, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match pread(&fd, &mut *buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buffer = &mut buffer[n..];
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(capacity: usize) -> io::Result<Memory> {
        Memory::new(capacity, Arc::default())
    }

    #[test]
    fn what_is_held_counts_until_it_is_let_go_of() {
        let whole = Arc::<Held>::default();
        let parts = [(); 2].map(|()| Arc::new(Held::part_of(Arc::clone(&whole))));
        let bytes = || (parts[0].bytes(), parts[1].bytes(), whole.bytes());
        let [first, second] = [(4096, 0), (1 << 20, 1)]
            .map(|(capacity, part)| Memory::new(capacity, Arc::clone(&parts[part])).unwrap());
        assert_eq!(bytes(), (4096, 1 << 20, 4096 + (1 << 20)));
        second.finish(1_880);
        assert_eq!(bytes(), (4096, 1_880, 4096 + 1_880));
        drop(first);
        assert_eq!(bytes(), (0, 1_880, 1_880));
        drop(second);
        assert_eq!(bytes(), (0, 0, 0));
    }

    #[test]
    fn a_segment_keeps_its_size() {
        let fd = memory(1 << 16).unwrap();
        assert!(ftruncate(&fd, 1).is_err(), "shrink");
        assert!(ftruncate(&fd, 1 << 20).is_err(), "grow");
        assert!(write_at(&fd, b"x", 1 << 16).is_err(), "write behind the end");
    }

    #[test]
    fn what_is_written_is_what_the_descriptor_reads() {
        let fd = memory(8192).unwrap();
        write_at(&fd, &[7; 4000], 0).unwrap();
        write_at(&fd, &[8; 4192], 4000).unwrap();
        let mut read = vec![0; 8192];
        read_at(&fd, &mut read, 0).unwrap();
        assert!(read[..4000].iter().all(|b| *b == 7) && read[4000..].iter().all(|b| *b == 8));
        assert!(read_at(&fd, &mut [0; 2], 8191).is_err(), "read behind the end");
    }
}
