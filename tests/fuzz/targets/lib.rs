//! A target calls one function of `contactd::fuzz`. Half of its inputs are changed by libFuzzer,
//! and half with their structure in mind.

#[doc(hidden)]
pub use libfuzzer_sys;

/// The target of the function with this name.
#[macro_export]
macro_rules! target {
    ($function:ident) => {
        use $crate::libfuzzer_sys;

        libfuzzer_sys::fuzz_target!(|data: &[u8]| contactd::fuzz::$function(data));

        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
            $crate::mutate(data, size, most, seed)
        });
    };
}

/// Changes the first `size` bytes of `data`, and returns how many there are now.
pub fn mutate(data: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    if seed % 2 == 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, most);
    }
    let changed = contactd::fuzz::mutated(&data[..size], most, seed.into());
    data[..changed.len()].copy_from_slice(&changed);
    changed.len()
}
