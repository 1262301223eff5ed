"""HTTP/1.1 on llhttp, behind Twisted's own interfaces."""
