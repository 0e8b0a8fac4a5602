//! VIP listeners, the SOCKS5 and HTTP CONNECT port, and DNS.
