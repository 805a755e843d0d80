//! The socket options that both sides share.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::net::sockopt;

/// Send buffer asked for, in bytes; the kernel doubles it.
const SEND_BUFFER: usize = 256 << 10;
/// Bytes a socket may hold unsent.
static NOT_SENT: u32 = 32 << 10;

/// Sets what accepted sockets are to inherit.
pub(crate) fn prepare_listener(listener: &OwnedFd, congestion: Option<&str>) -> io::Result<()> {
    sockopt::set_socket_reuseaddr(listener, true)?;
    sockopt::set_socket_send_buffer_size(listener, SEND_BUFFER)?;
    sockopt::set_tcp_nodelay(listener, true)?;
    if let Some(name) = congestion {
        sockopt::set_tcp_congestion(listener, name)?;
    }
    let size = libc::socklen_t::try_from(size_of_val(&NOT_SENT)).expect("four fits");
    // SAFETY: the option takes a u32 by address and size, and NOT_SENT outlives the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const NOT_SENT).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
