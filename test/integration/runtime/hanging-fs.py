# A file system that never answers: mounts FUSE on argv[1], says "ready", and reads requests without a reply. Whoever waits for
# one is in state D, which no signal ends, until this process does.
import ctypes, os, struct, sys

path = sys.argv[1]
fd = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
if libc.mount(b"hanging", path.encode(), b"fuse.hanging", 0, options) != 0:
    sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
request = os.read(fd, 1 << 17)
unique = struct.unpack_from("<IIQ", request)[2]
# struct fuse_init_out: version 7.31, and sizes that the kernel likes
body = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, 4096, 1, 0, 0, 0)
os.write(fd, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)
print("ready", flush=True)
while True:
    request = os.read(fd, 1 << 17)
    print("asked", struct.unpack_from("<II", request)[1], flush=True)
