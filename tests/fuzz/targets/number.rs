#![no_main]
contactd_fuzz::target!(number);
