//! A link on which each packet takes its time, beside that of a [`Netns`].

use std::{
    fs::File,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use super::netns::{Netns, ip};

/// A packet is at most this long.
const MTU: usize = 1500;

/// Lays a link into `netns` whose packets take `one_way` in each direction, and
/// gives the address inside; or says why it cannot be done here. It ends with
/// the process.
pub(crate) fn delayed(netns: &Netns, one_way: Duration) -> Result<IpAddr, String> {
    let address = |host| Ipv4Addr::new(10, 232, netns.number(), host);
    let name = format!("md{}n{}", std::process::id(), netns.number());
    let outer = tun(&name)?;
    let inner = netns.run(|| tun("delayed"))?;
    ip(&["addr", "add", &format!("{}/24", address(1)), "dev", &name])?;
    ip(&["link", "set", &name, "up"])?;
    ip(&["-n", netns.name(), "addr", "add", &format!("{}/24", address(2)), "dev", "delayed"])?;
    ip(&["-n", netns.name(), "link", "set", "delayed", "up"])?;
    let again = |file: &File| file.try_clone().map_err(|e| format!("a tun's descriptor: {e}"));
    carry(again(&outer)?, again(&inner)?, one_way);
    carry(inner, outer, one_way);
    Ok(address(2).into())
}

/// A tun device in the namespace of this thread, there for as long as its file.
fn tun(name: &str) -> Result<File, String> {
    let file = File::options().read(true).write(true).open("/dev/net/tun");
    let file = file.map_err(|e| format!("/dev/net/tun: {e}"))?;
    // SAFETY: all fields of an ifreq may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(15)) {
        *to = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).expect("two low bits");
    // SAFETY: TUNSETIFF reads and writes an ifreq, and this one outlives the call.
    let failed = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if failed != 0 {
        return Err(format!("TUNSETIFF {name}: {}", std::io::Error::last_os_error()));
    }
    Ok(file)
}

/// Carries packets in one direction, each `one_way` after it came.
fn carry(mut from: File, mut to: File, one_way: Duration) {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut packet = [0; MTU];
        while let Ok(len) = from.read(&mut packet) {
            if sender.send((Instant::now() + one_way, packet[..len].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, packet) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // What the other end cannot take is lost, as on any link.
            to.write_all(&packet).ok();
        }
    });
}
