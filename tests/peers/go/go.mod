module trama.invalid/peer

go 1.24
