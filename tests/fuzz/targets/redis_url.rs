#![no_main]
contactd_fuzz::target!(redis_url);
