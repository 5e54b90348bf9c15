# Arrays, long strings, command substitution, subshells and pipes.
set -eu
declare -A words=()
list=()
for ((i = 0; i < 6000; i++)); do
    list+=("item-$i-$((i * i % 977))")
    words[key$((i % 613))]+="${list[-1]},"
done
echo "${#list[@]} ${#words[@]} ${words[key17]}"
text=
for ((i = 0; i < 300; i++)); do text+="${list[*]:i:20}"; done
echo "${#text} ${text//item/thing}" | cksum
for ((i = 0; i < 150; i++)); do
    sum=$(echo "${list[i]}" | (read -r word; echo "${word#item-}"))
    total+=":$sum"
done
echo "$total"
printf '%s\n' "${list[@]}" | sort -r | while IFS=- read -r _ a b; do echo $((a + b)); done | sort -n | tail -3
mapfile -t lines < <(printf '%s\n' "${!words[@]}" | sort)
echo "${#lines[@]} ${lines[100]}"
(for i in 1 2 3 4; do (echo "job $i: $(printf '%s' "${text:i*1000:50}")") & done; wait) | sort
