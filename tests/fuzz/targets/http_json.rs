#![no_main]
contactd_fuzz::target!(http_json);
