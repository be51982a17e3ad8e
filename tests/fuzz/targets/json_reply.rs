#![no_main]
contactd_fuzz::target!(json_reply);
