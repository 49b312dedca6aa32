//! The module's door: `give(length)` gives room for a question, `ask(address, length)` answers it and takes the room back,
//! `release(address, length)` takes back the answer's. Addresses are of the module's own memory.

#![expect(unsafe_code, reason = "a module and its page share nothing but memory")]

/// Longer than any form with its grounds and profile.
const QUESTION_BYTES_MAX: usize = 1 << 20;

/// Room for a question of `length` bytes; 0 where that is more than anybody has to ask.
#[unsafe(no_mangle)]
pub extern "C" fn give(length: usize) -> *mut u8 {
    if length == 0 || length > QUESTION_BYTES_MAX {
        return std::ptr::null_mut();
    }
    Box::into_raw(vec![0_u8; length].into_boxed_slice()).cast()
}

/// The answer to the question at `address`: its address in the upper 32 bits, its length in the lower ones.
///
/// # Safety
/// `address` and `length` are what [`give`] gave and was asked for, and were used in no call since.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ask(address: *mut u8, length: usize) -> u64 {
    // SAFETY: this call's condition; the box is the one that `give` let go.
    let question = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(address, length)) };
    let answer = super::answer(&question).into_boxed_slice();
    let length = answer.len();
    let address: *mut u8 = Box::into_raw(answer).cast();
    (u64::try_from(address.addr()).unwrap_or_default() << 32) | u64::try_from(length).unwrap_or_default()
}

/// # Safety
/// `address` and `length` are those of an answer of [`ask`] that was not released yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn release(address: *mut u8, length: usize) {
    // SAFETY: this call's condition; the box is the one that `ask` let go.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(address, length)) });
}
