% Reads what `esker` recorded from instruments, in either layout, and checks what it reads.
%
%   octave read_daq.m FILE INSTRUMENT COLUMN
%
% FILE is a run's .h5 file, sealed or live. In the columns layout INSTRUMENT/COLUMN is one dataset; in the batches layout each
% flush is a group INSTRUMENT/batch_000001, INSTRUMENT/batch_000002, ... with a dataset per column, and all of them together
% are INSTRUMENT/all/COLUMN. Octave's `load` gives groups as structs and datasets as matrices. See README.md beside this file.
%
% Numbers only: Octave's `load` has no texts of variable length. Names that Octave takes for its own words, and names with other characters than letters, digits and '_', come out changed by
% `load`.

1; % a script file, not a function file

function [values, parts] = read_column(file, instrument, column)
  % The column as one vector, and how many groups or datasets it came from.
  all_of_it = load("-hdf5", file, instrument); % this group alone
  if ! isfield(all_of_it, instrument)
    error("read_daq: %s has no instrument %s", file, instrument);
  end
  group = all_of_it.(instrument);
  if isfield(group, column)
    values = group.(column)(:);
    parts = 1;
    return;
  end
  names = sort(fieldnames(group)); % batch_000001 sorts before batch_000002
  values = [];
  parts = 0;
  for i = 1:numel(names)
    if strncmp(names{i}, "batch_", 6)
      piece = group.(names{i}).(column);
      values = [values; piece(:)];
      parts += 1;
    end
  end
  if parts == 0
    error("read_daq: %s: %s has no column %s and no batches", file, instrument, column);
  end
end

args = argv();
if numel(args) != 3
  error("usage: octave read_daq.m FILE INSTRUMENT COLUMN");
end
[values, parts] = read_column(args{:});
printf("%s/%s: %d values from %d dataset(s), class %s\n", args{2}, args{3}, numel(values), parts, class(values));
if numel(values) > 0 && isnumeric(values)
  printf("first %.17g, last %.17g, sum %.17g\n", double(values(1)), double(values(end)), sum(double(values)));
end
