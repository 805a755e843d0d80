//! Memory that the kernel can send from: an anonymous file, written once.
//!
//! Written with `pwrite` from a buffer that is still in the cache, which costs
//! less than reading into a mapping: a whole page is taken over without being
//! cleared first, and without a fault.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    io::{Errno, pread, pwrite},
};

/// Makes a memfd of `capacity` bytes, which it keeps for its whole life.
///
/// # Errors
/// When the process has no descriptor left.
pub(super) fn create(capacity: usize) -> io::Result<OwnedFd> {
    let fd = memfd_create("millrace-segment", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, capacity as u64)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
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

    #[test]
    fn a_segment_keeps_its_size() {
        let fd = create(1 << 16).unwrap();
        assert!(ftruncate(&fd, 1).is_err(), "shrink");
        assert!(ftruncate(&fd, 1 << 20).is_err(), "grow");
        assert!(write_at(&fd, b"x", 1 << 16).is_err(), "write behind the end");
    }

    #[test]
    fn what_is_written_is_what_the_descriptor_reads() {
        let fd = create(8192).unwrap();
        write_at(&fd, &[7; 4000], 0).unwrap();
        write_at(&fd, &[8; 4192], 4000).unwrap();
        let mut read = vec![0; 8192];
        read_at(&fd, &mut read, 0).unwrap();
        assert!(read[..4000].iter().all(|b| *b == 7) && read[4000..].iter().all(|b| *b == 8));
        assert!(read_at(&fd, &mut [0; 2], 8191).is_err(), "read behind the end");
    }
}
