# Hashes, sorts, regular expressions, growing strings and forks.
use strict;
use warnings;

my %count;
my $seed = 42;
sub next_number { $seed = ($seed * 1103515245 + 12345) % 2147483648; return $seed; }
for (1 .. 120000) { $count{ "word" . next_number() % 20011 }++; }
my @keys = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print scalar(@keys), " @keys[0 .. 5]\n";
my $text = join " ", map { "$_=$count{$_};" } @keys;
my $matches = () = $text =~ /word(\d+)1=([3-7]);/g;
(my $changed = $text) =~ s/(\d+)=(\d+)/$2:$1/g;
print length($text), " $matches ", unpack("%32C*", $changed), "\n";
my %lists;
push @{ $lists{ length $_ } }, $_ for @keys;
print join(",", map { "$_:" . scalar @{ $lists{$_} } } sort { $a <=> $b } keys %lists), "\n";
my @answers;
for my $child (1 .. 6) {
    my $process = open(my $pipe, "-|") // die;
    if ($process == 0) {
        my %own = map { $_ => $count{$_} * $child } @keys[0 .. 9999];
        my $sum = 0;
        $sum += $_ for values %own;
        print $sum;
        exit 0;
    }
    push @answers, scalar <$pipe>;
    close $pipe or die;
}
print "@answers\n";
