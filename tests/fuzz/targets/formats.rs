#![no_main]
contactd_fuzz::target!(formats);
