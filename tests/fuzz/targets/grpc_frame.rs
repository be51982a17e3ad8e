#![no_main]
contactd_fuzz::target!(grpc_frame);
