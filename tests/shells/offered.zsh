# zsh offered.zsh CODE LINE...: prints as JSON what zsh would offer at the end of each line.
# The lines are typed into an interactive zsh, in which TAB tells what compadd was given.
zmodload zsh/zpty
zpty inner zsh -f -i
cat >$TMPDIR/inner.zsh <<'INNER'
autoload -Uz compinit && compinit -u -D
compadd() {
  local -a hits
  # Those that only ask which words match are of the completion system itself.
  if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
    builtin compadd -O hits "$@"
    offered+=($hits)
  fi
  builtin compadd "$@"
}
offer() {
  local -aU offered
  _main_complete
  compstate[insert]= compstate[list]=
  print -r -- "<""begin>${(j:", ":)offered}<""end>"
}
zle -C offer complete-word offer
bindkey '^I' offer
INNER
zpty -w inner "source $TMPDIR/inner.zsh; source $1; print '<''end>'"
zpty -r inner told '*<end>*'
shift
for line; do
  zpty -w -n inner $line$'\t'
  zpty -r inner told '*<end>*'
  told=${${told##*<begin>}%%<end>*}
  print -r -- "[${told:+\"$told\"}]"
  zpty -w -n inner $'\C-u'
done
zpty -d inner
