//! When bytes arrived, as the kernel noted it.

use std::{
    io,
    mem::{size_of, size_of_val},
    net::TcpStream,
    os::fd::AsRawFd,
    time::{Duration, SystemTime},
};

/// Room for one control message with a `timespec`, and to spare.
const CONTROL: usize = 64;

/// Has the kernel note when bytes come on `socket` (socket(7), `SO_TIMESTAMPNS`).
pub(crate) fn ask(socket: &impl AsRawFd) -> io::Result<()> {
    let yes: libc::c_int = 1;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads
    // the integer's bytes.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const yes).cast(),
            size_of_val(&yes) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads once into `buffer`; says how many bytes, and when the last of them had
/// come.
pub(crate) fn read(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, SystemTime)> {
    let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = [0u64; CONTROL / size_of::<u64>()];
    // SAFETY: pointers and integers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL as _;
    // SAFETY: all that the message points to outlives the call, with its lengths.
    let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    Ok((read, stamp(&message).ok_or(io::ErrorKind::Unsupported)?))
}

/// The time in the control messages that the kernel has written.
fn stamp(message: &libc::msghdr) -> Option<SystemTime> {
    // SAFETY: `message` is as the kernel left it, its buffer still there.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
        return None;
    }
    // SAFETY: a message of this type has a `timespec`, wherever it lies.
    let time = unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
    let since = Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}
