#![no_main]
contactd_fuzz::target!(path);
