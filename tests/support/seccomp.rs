//! Denies io_uring to a process, as container runtimes do by default.

use std::io;

/// System call numbers of io_uring_setup, _enter and _register: the same on
/// every architecture.
const URING_FIRST: u32 = 425;
const URING_LAST: u32 = 427;
/// Where the number stands in `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;

fn instruction(code: u32, jump_true: u8, jump_false: u8, k: u32) -> libc::sock_filter {
    let code = u16::try_from(code).expect("codes of classic BPF have 16 bits");
    libc::sock_filter { code, jt: jump_true, jf: jump_false, k }
}

/// Makes the three calls fail with EPERM in this thread, in what it starts and
/// in what it executes; there is no way back. Allocates nothing, so it may run
/// between fork and exec.
pub(crate) fn deny_uring() -> io::Result<()> {
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, NUMBER_OFFSET),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 2, URING_FIRST),
        instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, URING_LAST),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let len = u16::try_from(filter.len()).expect("it has five instructions");
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: plain integers; the call reads no memory of ours.
    let settled = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if settled != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel copies the program, which lives until the call returns.
    let filtered =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if filtered == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
