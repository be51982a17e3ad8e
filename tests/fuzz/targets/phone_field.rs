#![no_main]
contactd_fuzz::target!(phone_field);
