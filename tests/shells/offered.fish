# fish offered.fish CODE LINE...: prints as JSON what fish would offer at the end of each line.
source $argv[1]
for line in $argv[2..-1]
    set -l found (complete -C $line | string replace -r '\t.*' '')
    set -l quoted
    for word in $found
        set -a quoted "\"$word\""
    end
    set -l joined (string join ', ' -- $quoted)
    echo "[$joined]"
end
