# bash offered.bash CODE LINE...: prints as JSON what bash would offer at the end of each line.
source "$1" || exit
shift
for COMP_LINE; do
  # Readline splits at blanks, and makes words of its own of what else is in COMP_WORDBREAKS.
  COMP_WORDS=() rest=$COMP_LINE
  while [[ $rest =~ ^[[:space:]]*([:=]+|[^[:space:]:=]+)(.*)$ ]]; do
    COMP_WORDS+=("${BASH_REMATCH[1]}") rest=${BASH_REMATCH[2]}
  done
  [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_POINT=${#COMP_LINE}
  _homenode
  # Readline puts what is offered behind the last : or = of the word.
  word=${COMP_LINE##* } before=''
  [[ $word == *[:=]* ]] && before=${word%"${word##*[:=]}"}
  separator='' told=''
  for reply in "${COMPREPLY[@]}"; do
    told+=$separator\"$before$reply\" separator=', '
  done
  echo "[$told]"
done
