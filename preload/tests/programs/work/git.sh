# A repository with some hundreds of commits, and what keeps one in order.
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_AUTHOR_DATE='@1700000000 +0000' GIT_COMMITTER_DATE='@1700000000 +0000'
git init -q -b main tree
cd tree
git add .
git commit -q -m first
{
    for ((i = 0; i < 300; i++)); do
        message="change $i" content="$(seq $i $((i + 200)))"
        printf 'commit refs/heads/main\ncommitter a <a@b> %d +0000\n' $((1700000001 + i))
        printf 'data %d\n%s\n' ${#message} "$message"
        if [ "$i" = 0 ]; then echo 'from refs/heads/main^0'; fi
        printf 'M 100644 inline 0/changing%d.txt\ndata %d\n%s\n' $((i % 20)) ${#content} "$content"
    done
} | git fast-import --quiet
git reset -q --hard
git log --stat --format='%h %s' | cksum
git log -S 'line 7 of file 51' --oneline
git diff HEAD~150 HEAD | cksum
git blame 0/changing3.txt | cksum
git checkout -q -b side HEAD~100
echo side >>1/file99.txt
git commit -q -a -m side
git rebase -q main
git checkout -q main
git cherry-pick HEAD~7 >/dev/null 2>&1 || git cherry-pick --abort
git merge -q --no-ff -m merged side
git fsck --full --strict --no-progress
git gc -q --aggressive --prune=now
git count-objects -v | grep -E '^(count|in-pack|packs)'
cd ..
git clone -q --no-local tree clone
git -C clone fsck --full --no-progress
git -C clone log --oneline --graph | cksum
git -C clone archive HEAD | cksum
git -C clone grep -c 'of file 2' | cksum
