#![no_main]
contactd_fuzz::target!(connector_file);
