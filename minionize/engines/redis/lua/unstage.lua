-- A large put came to nothing. KEYS[14]: its parts.
return call('UNLINK', KEYS[14])
