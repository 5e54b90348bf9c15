find tree -type f -size +1k | LC_ALL=C sort | tee names.txt | wc -l
xargs -n 40 cat <names.txt | tr a-z A-Z | sort -k 6n -k 5,5 | uniq -c |
    awk '{ sum += $1 * length($0) } END { print NR, sum }'
sort --parallel=2 -S 20M -R --random-source=names.txt names.txt | sort -u | cksum
tar --sort=name --owner=0 --group=0 --mtime=@0 -cf tree.tar tree
gzip -9 -n -k tree.tar
xz -6 -k -T 2 tree.tar
gzip -dc tree.tar.gz | sha256sum
xz -dc tree.tar.xz | sha256sum
mkdir again && tar -C again -xf tree.tar.xz && diff -r tree again/tree && echo same
ls -lR --time-style=+ again | awk 'NF > 4 { print $5, $NF }' | sha256sum
