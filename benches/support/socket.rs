//! Listeners of floors, with the socket options that our server has.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Send buffer asked for, in bytes; the kernel doubles it.
const SEND_BUFFER: usize = 256 << 10;
/// Bytes a socket may hold unsent.
static NOT_SENT: u32 = 32 << 10;
/// Connections that may be pending.
const BACKLOG: i32 = 4_096;

/// Listens on a free port of the loopback, whose number is printed as a JSON
/// line; accepted sockets inherit the options.
pub(crate) fn listen(kind: SocketFlags, congestion: Option<&str>) -> io::Result<OwnedFd> {
    let flags = kind | SocketFlags::CLOEXEC;
    let listener = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    prepare(&listener, congestion)?;
    rustix::net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&listener, BACKLOG)?;
    let address = SocketAddrV4::try_from(rustix::net::getsockname(&listener)?)?;
    println!("{}", serde_json::json!({ "address": address.to_string() }));
    Ok(listener)
}

fn prepare(listener: &OwnedFd, congestion: Option<&str>) -> io::Result<()> {
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
